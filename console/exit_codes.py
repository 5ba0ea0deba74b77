"""Exit codes of the command line. `noctile run` and `plan` also return 3 for a stopped run."""

SOME_FAILED, USAGE, INTERRUPTED = 1, 2, 130
