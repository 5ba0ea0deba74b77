"""The folder of results: layout, atomic files, ledger, lease, checksums."""
