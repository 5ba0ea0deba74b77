"""Stop signal of a run: asked by the user, by the clock, by a full disk or by a lost folder."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from noctile.workflows.processes.signals import stop_signals

GRACE_S = 30.0
"""Longest time that running jobs may go on after the run was asked to stop (s). Slurm and
Kubernetes kill a job after 30 s."""

_CHECK_S = 1.0
"""Time between two checks of clock and disk (s)."""


class Stop:
    """Stop signal of a run (see `noctile.workflows.engines.base.StopSignal`).

    Args:
        out: folder of results, whose disk must have free space.
        min_free_bytes: free space below which no further job starts (B).
        until: time at which the run stops, with its time zone; None for no such time.
        announce: called once with the reason, in the thread that asks.

    Attributes:
        reason: reason why the run stops; None as long as it goes on.
    """

    def __init__(
        self,
        out: Path,
        min_free_bytes: int,
        until: datetime | None,
        announce: Callable[[str], None],
    ) -> None:
        self._out, self._min_free_bytes, self._until = out, min_free_bytes, until
        self._announce: Callable[[str], None] | None = announce
        self.reason: str | None = None
        self._deadline: float | None = None
        self._check_at = time.monotonic()

    def ask(self, reason: str, *, at_once: bool = False) -> None:
        """Stop the run; the first reason is kept. Safe in any thread and in a signal handler.

        Args:
            reason: reason for the user.
            at_once: True if running jobs get no time to end.
        """
        if self.reason is None:
            self._deadline, self.reason = time.monotonic() + GRACE_S, reason
        if at_once:
            self._deadline = time.monotonic()

    def asked(self) -> bool:
        """See `StopSignal.asked`."""
        if self.reason is None and time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + _CHECK_S
            self._check()
        if self.reason is not None and self._announce:
            announce, self._announce = self._announce, None
            announce(self.reason)
        return self.reason is not None

    def over(self) -> bool:
        """See `StopSignal.over`."""
        return self.asked() and self._deadline is not None and time.monotonic() >= self._deadline

    def _check(self) -> None:
        if self._until is not None and time.time() >= self._until.timestamp():
            self.ask(f"it is {self._until:%H:%M} (--until)")
        try:
            free = shutil.disk_usage(self._out).free
        except OSError as error:
            self.ask(f"{self._out} cannot be reached: {error.strerror or error}", at_once=True)
            return
        if free < self._min_free_bytes:
            self.ask(
                f"disk low: {free / 2**30:.1f} GiB free at {self._out}, less than the "
                f"{self._min_free_bytes / 2**30:.1f} GiB of --min-free-disk"
            )


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP stop a run; a Ctrl-C while it is stopping interrupts it.

    A signal that was ignored before (nohup) stays ignored. Only the main thread can handle signals;
    in other threads nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and stop.reason is not None:
            raise KeyboardInterrupt
        stop.ask("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    handled = [n for n in stop_signals() if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
