"""Signals that stop a run, and crash dumps of processes that die."""

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_crash_dumps: list[TextIO] = []
"""Files that `dump_crashes_to` opened; a closed file could not be written to."""


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a whole run to stop.

    A terminal and a batch system send them to every process of the run. The main process handles
    them; its workers must not die of them in the middle of a job.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [signal.Signals[name] for name in names if hasattr(signal, name)]


def ignore_stop_signals() -> None:
    """Ignore the signals that stop a run, in this process, from now on."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def children_ignoring_stop_signals() -> Iterator[None]:
    """Let processes that are started here ignore the signals that stop a run.

    A new program inherits ignored signals. Outside the main thread nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def dump_crashes_to(path: Path) -> None:
    """Write the stack of every thread to a file when this process crashes, or on SIGUSR1.

    Python writes it even while C code holds the interpreter.
    """
    file = path.open("w", encoding="utf-8")
    _crash_dumps.append(file)
    faulthandler.enable(file)
    if sys.platform != "win32":
        faulthandler.register(signal.SIGUSR1, file, all_threads=True)
