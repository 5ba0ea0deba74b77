"""Faults at the n-th change of a folder, in this process: a kill, Ctrl-C, a full disk.

Python tells an audit hook of each file that is opened for writing and of each name that changes;
writes and syncs of open files are watched too. What libraries write in C alone is not seen before
its name changes.
"""

import errno
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_GROWING = {"open", "os.mkdir", "os.link", "os.write", "os.fsync"}
_EVENTS = {"open", "os.mkdir", "os.link", "os.rename", "os.remove", "os.rmdir"}


class KilledError(BaseException):
    """Stands for a kill: from then on, nothing is written."""


@dataclass(frozen=True)
class Fault:
    """A fault, and when it comes.

    Attributes:
        kind: kind of the fault.
        at: number of the change at which it comes, from 1.
        more: number of further changes that a full disk refuses, or after which Ctrl-C is pressed
            again; 0 for none.
        torn: True if a kill leaves an empty or half a file.
    """

    kind: Literal["kill", "ctrl_c", "full"]
    at: int
    more: int = 0
    torn: bool = False


@dataclass
class _Watch:
    """Changes of a folder in one call.

    Attributes:
        top: folder that is watched.
        fault: fault to come.
        changes: number of changes so far.
        killed: True once the kill has come.
        inside: True while the watch itself writes.
    """

    top: str
    fault: Fault
    changes: int = 0
    killed: bool = False
    inside: bool = field(default=False)

    def event(self, event: str, args: tuple[Any, ...]) -> None:
        if self.inside or not self._is_watched(event, args):
            return
        self.changes += 1
        past = self.changes - self.fault.at
        if self.fault.kind == "kill" and (self.killed or past == 0):
            self._kill(event, args)
        elif self.fault.kind == "full" and event in _GROWING and 0 <= past <= self.fault.more:
            self._tear(event, args)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif self.fault.kind == "ctrl_c" and (past == 0 or past == self.fault.more > 0):
            signal.raise_signal(signal.SIGINT)

    def _is_watched(self, event: str, args: tuple[Any, ...]) -> bool:
        if event in ("os.write", "os.fsync"):
            return stat.S_ISREG(os.fstat(args[0]).st_mode)
        if isinstance(args[0], int) or (event == "open" and not args[2] & _WRITING):
            return False
        path = os.fsdecode(args[0])  # relative to an open folder while a tree is removed
        return path.startswith(self.top) if path.startswith(os.sep) else event != "open"

    def _kill(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.killed and self.fault.torn:
            self._tear(event, args)
        self.killed = True
        raise KilledError

    def _tear(self, event: str, args: tuple[Any, ...]) -> None:
        """Leave an empty file, or half of what was to be written."""
        self.inside = True
        try:
            if event == "open" and not os.path.lexists(args[0]):
                Path(os.fsdecode(args[0])).touch()
            elif event == "os.write":
                _WRITE(args[0], args[1][: len(args[1]) // 2])
        except OSError:
            pass
        finally:
            self.inside = False


_WRITE = os.write
_watch: _Watch | None = None
_hooked = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watch is not None and event in _EVENTS:
        _watch.event(event, args)


def _written(number: int, data: bytes) -> int:
    if _watch is not None:
        _watch.event("os.write", (number, data))
    return _WRITE(number, data)


def _synced(number: int) -> None:
    """Count a sync; a process that dies loses nothing that was not synced."""
    if _watch is not None:
        _watch.event("os.fsync", (number,))


@contextmanager
def without_syncs() -> Iterator[None]:
    """Let syncs take no time: no test in this process cuts the power."""
    with mock.patch.object(os, "fsync", _synced):
        yield


@contextmanager
def planted(top: Path, fault: Fault | None) -> Iterator[_Watch | None]:
    """Plant a fault among the changes of a folder; to be used inside `without_syncs`.

    Yields:
        the changes so far, and whether the kill has come.
    """
    global _watch, _hooked  # noqa: PLW0603 - an audit hook cannot be removed
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    watch = _watch = _Watch(str(top), fault) if fault else None
    try:
        with mock.patch.object(os, "write", _written):
            yield watch
    except KilledError:
        assert watch
    finally:
        _watch = None
