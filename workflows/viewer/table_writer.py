"""Tables and report of the results, written anew after reviews."""

import threading
from contextlib import suppress

from noctile.pipeline.errors import NoctileError
from noctile.workflows.commands.status import current_run
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import read_ledger
from noctile.workflows.results.report import Report
from noctile.workflows.results.standing import Standing
from noctile.workflows.results.tables import Tables

_PAUSE_S = 2.0
"""Pause after a review before the tables are written (s): other reviews may follow."""


class TableWriter:
    """Writer of the tables in a thread of its own. It does not hold up a run.

    While a run holds the folder, the run's own tables show the reviews. The tables are a function
    of the folder, so they may be written without holding it. If the ledger has changed meanwhile,
    they are written once more.

    Args:
        results: folder of results.
        pause_s: pause after a review before the tables are written (s).
    """

    def __init__(self, results: ResultsFolder, pause_s: float = _PAUSE_S) -> None:
        self._results, self._pause_s = results, pause_s
        self._due, self._wake, self._closed = False, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="tables", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Note that a review has changed."""
        self._due = True
        self._wake.set()

    def close(self) -> None:
        """Write the tables if a review has changed, and end the thread."""
        self._closed.set()
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closed.is_set():
            self._wake.wait()
            self._closed.wait(self._pause_s)
            self._wake.clear()
            if self._due:
                self._due = False
                with suppress(NoctileError, OSError):  # `noctile table` names what is wrong
                    write_tables(self._results)


def write_tables(results: ResultsFolder) -> None:
    """Write the tables, unless a run holds the folder.

    Raises:
        StoreError: if the file system refuses, or a file is damaged.
        OSError: if the ledger cannot be read.
    """
    for _ in range(3):
        before = results.ledger.stat()
        if (run := current_run(results.path)) and run.alive:
            return
        Tables(results, Standing(results, read_ledger(results.ledger))).write()
        Report(results).write()
        after = results.ledger.stat()
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return
