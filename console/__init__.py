"""The command line, one module a command: words become one call, its result becomes a table.

Heavy imports are late, so that ``noctile --help`` answers at once.
"""
