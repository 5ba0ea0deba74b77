"""Commands other than `run`."""
