"""Exit codes of the command line. `noctile run` and `plan` have 3 too: stopped, may be continued."""

SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130
