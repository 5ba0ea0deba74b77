"""Commands of the command line, one module each: options become one call, its result a table.

Heavy modules are imported by the command that needs them, so that ``noctile --help`` is fast.
"""
