"""Watch over an inference server: it must answer pings, and end each batch within a time.

A process can be stopped, or hold the interpreter's lock for ever; then it answers no ping. One of
its threads can also wait for ever for a GPU while others answer. So the answer to a ping is the
number of the oldest batch that has not ended. A batch that stays the oldest for too long hangs.

Time is counted in pings, not by the clock: a run that was stopped as a whole (Ctrl-Z) and goes on
later has lost no time. (docs/decisions/0026)
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Client, Connection

PING = "ping"
"""Message that asks a server for the number of its oldest batch that has not ended."""

_INTERVAL_S = 2.0
"""Time between two pings (s)."""

_START_S = 1800.0
"""Time that a server has to load its model (s). ``torch.compile`` takes minutes on a slow machine,
and a model may come from a slow network."""

_SILENT_S = 120.0
"""Time without an answer to a ping after which a server counts as hanging (s). The answer takes
less than a millisecond; only code that holds the interpreter's lock delays it."""

_BATCH_S = 600.0
"""Time after which the oldest batch counts as hanging (s). A batch takes 0.01 s on an H100; one
that is compiled first takes a minute."""


class Unfinished:
    """The batches of a server that have not ended; several threads may use it."""

    def __init__(self) -> None:
        self._numbers, self._lock = count(), threading.Lock()
        self._open: dict[int, None] = {}

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a batch while the context is open."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = None
        try:
            yield
        finally:
            with self._lock:
                del self._open[number]

    def oldest(self) -> int | None:
        """Number of the oldest batch that has not ended; None if there is none."""
        with self._lock:
            return next(iter(self._open), None)


class Watch:
    """Pings one server, from its start to its end.

    Args:
        address: address of the server, a socket's path.

    Attributes:
        interval_s: time between two calls of `hangs` (s).
    """

    def __init__(self, address: str) -> None:
        self._address, self.interval_s = address, _INTERVAL_S
        self._connection: Connection | None = None
        self._greeted, self._waits = False, False
        self._silent_s = self._same_s = 0.0
        self._oldest: int | None = None

    def hangs(self) -> bool:
        """Ping the server, or look for the answer to the last ping.

        Returns:
            True if the server hangs. False also for a server that is starting or has ended.
        """
        with suppress(EOFError, OSError):
            self._exchange()
        if self._waits:
            self._silent_s += self.interval_s
        return (
            self._silent_s >= (_SILENT_S if self._greeted else _START_S) or self._same_s >= _BATCH_S
        )

    def _exchange(self) -> None:
        """Take the message that has come, if one has, and send the next ping."""
        if self._connection is None:
            self._waits = True  # for the first message, which a server sends with its model loaded
            self._connection = Client(self._address, "AF_UNIX")
        if not self._connection.poll():
            return
        message = self._connection.recv()
        if self._greeted:
            same = message is not None and message == self._oldest
            self._same_s = self._same_s + self.interval_s if same else 0.0
            self._oldest = message
        self._greeted, self._silent_s = True, 0.0
        self._connection.send(PING)

    def close(self) -> None:
        """Close the connection to the server."""
        if self._connection is not None:
            self._connection.close()
