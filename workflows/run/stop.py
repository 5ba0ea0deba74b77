"""When a run stops before its end: it is asked to, its time is over, the disk is nearly full, the
folder has gone.
"""

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
"""How long what runs may go on after the run was asked to stop (s); Slurm and Kubernetes kill after
30 s."""

_LOOK_S = 1.0
"""Between two looks at clock and disk (s)."""


class Stop:
    """The brake of a run (see `noctile.workflows.engines.base.StopSignal`).

    Args:
        out: the output folder, on whose disk there must be room.
        min_free_bytes: below so much free disk nothing new is started (B).
        until: when the run ends, or None; a date with time zone.
        announce: called once, in the thread that asks, with the reason.

    Attributes:
        reason: why the run stops; None as long as it goes on.
    """

    def __init__(
        self,
        out: Path,
        min_free_bytes: int,
        until: datetime | None,
        announce: Callable[[str], None],
    ) -> None:
        self._out, self._min_free_bytes, self._until, self._announce = (
            out,
            min_free_bytes,
            until,
            announce,
        )
        self.reason: str | None = None
        self._deadline: float | None = None
        self._look_at = time.monotonic()

    def ask(self, reason: str, *, at_once: bool = False) -> None:
        """Stop the run; the first reason stands. ``at_once``: what runs is left as it is. From any
        thread or signal.
        """
        if self.reason is None:
            self._deadline, self.reason = time.monotonic() + GRACE_S, reason
        if at_once:
            self._deadline = time.monotonic()

    def asked(self) -> bool:
        """See `StopSignal.asked`."""
        if self.reason is None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self._look()
        if self.reason is not None:
            self._announce_once(self.reason)
        return self.reason is not None

    def over(self) -> bool:
        """See `StopSignal.over`."""
        return self.asked() and self._deadline is not None and time.monotonic() >= self._deadline

    def _look(self) -> None:
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

    def _announce_once(self, reason: str) -> None:
        announce, self._announce = self._announce, _say_nothing
        announce(reason)


def _say_nothing(_: str) -> None:
    pass


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP ask a run to stop; a Ctrl-C while it is stopping interrupts it.

    A signal that was ignored before (nohup) stays ignored. Only the main thread can hear signals;
    in others nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and stop.reason is not None:
            raise KeyboardInterrupt
        stop.ask("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    heard = [number for number in stop_signals() if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
