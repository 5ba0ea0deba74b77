"""Processes of a run: memory, end, and end with the parent process."""

import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import NoReturn

import psutil

from noctile.workflows.processes.scratch import scratch_folder
from noctile.workflows.processes.signals import ignore_stop_signals

if sys.platform != "win32":
    import fcntl

_DUMP_S = 0.2
"""Time that a process has to write its crash dump before it is killed (s). Even a process that
waits in C code writes it within a millisecond."""


def end_with_parent() -> None:
    """Have the kernel kill this process at the moment when its parent dies. On Linux only.

    Dask's workers end themselves when they notice that. A worker that hangs in C code notices
    nothing and would stay.
    """
    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None:
        return
    fd = parent.sentinel  # a pipe that carries no data: the only event on it is its end
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)  # instead of SIGIO
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    if multiprocessing.connection.wait([fd], timeout=0):
        os._exit(1)  # the parent died before the signal was set


def kill(pid: int) -> None:
    """Let a process write its crash dump, then end it, whatever it is doing."""
    with suppress(ProcessLookupError):
        if sys.platform != "win32":
            os.kill(pid, signal.SIGUSR1)
            time.sleep(_DUMP_S)
    end(pid)


def end(pid: int) -> None:
    """End a process at once, if it exists."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def exit_at_once(code: int) -> NoReturn:
    """End this process and all that it started, at once. In the main thread only.

    A user who interrupts a run that is stopping waits for nothing. While Dask starts workers,
    Python's own exit would wait for them, and they for their scheduler.
    """
    ignore_stop_signals()
    logging.disable()  # Dask's thread would log the end of its workers
    tracker = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined] # it removes named semaphores
    for pid in {child.pid for child in psutil.Process().children(recursive=True)} - {tracker}:
        end(pid)
    if scratch_folder.cache_info().currsize:
        shutil.rmtree(scratch_folder(), ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def memory_bytes(pid: int) -> int:
    """Memory that a process holds, shared libraries included (B); 0 if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
