"""The command line: words become one call, its result becomes a table."""
