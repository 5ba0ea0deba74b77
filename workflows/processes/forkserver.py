"""The process that workers are forked from: it imports what they need, once."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver

from noctile.workflows.processes.scratch import scratch_folder
from noctile.workflows.processes.signals import children_ignoring_stop_signals

_QUIET = "ignore:resource_tracker:UserWarning"
"""Python warns of named semaphores that an interrupted or killed run left. It removes them, too."""

_NANNY = "distributed.nanny"
"""Module that Dask's workers run."""


def start_forkserver(modules: Sequence[str], env: Mapping[str, str]) -> None:
    """Start the process that workers are forked from; return before its imports are done.

    Forked workers share its memory and start at once. Spawned workers would each import torch anew.
    On Linux only: on other systems libraries do not survive a fork. A GPU's driver is first set up
    in the workers, after the fork. A forkserver that runs already stays as it is.

    Args:
        modules: modules that are imported there.
        env: environment of it and of the workers, e.g. ``OMP_NUM_THREADS``.
    """
    if sys.platform != "linux":
        return
    scratch_folder()
    first = "noctile.workflows.processes.fork_gc"
    multiprocessing.set_forkserver_preload([first, _NANNY, *modules])
    warnings = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), _QUIET)))
    with _environment({**env, "PYTHONWARNINGS": warnings}), children_ignoring_stop_signals():
        forkserver.ensure_running()


@contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
