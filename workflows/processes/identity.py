"""Process identity (host, boot id, pid, start time), used to tell stale files from files in use."""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_STATE, _START_TICKS = 0, 19
"""Fields 3 and 22 of /proc/PID/stat, counted after the name of the command. (proc(5))"""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process on some machine.

    Attributes:
        host: name of the machine.
        place: scope of the process number: boot id and, in a container, process namespace.
        pid: process number.
        start_s: time when the process started (s since boot on Linux, else since 1970). It tells
            the process from a later one with the same number.
    """

    host: str
    place: str
    pid: int
    start_s: float

    @classmethod
    def me(cls) -> "ProcessIdentity":
        """The identity of this process."""
        start_s = _start_s(os.getpid())
        assert start_s is not None  # noqa: S101 - this process runs
        return cls(platform.node(), _place(), os.getpid(), start_s)

    @property
    def is_here(self) -> bool:
        """True if the process number is valid here: same machine, boot and namespace."""
        return (self.host, self.place) == (platform.node(), _place())

    @property
    def is_gone(self) -> bool:
        """True if the process has ended for certain; False where that cannot be known here."""
        return self.is_here and _start_s(self.pid) != self.start_s

    def to_json(self) -> str:
        """The identity as one line of JSON; see `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ProcessIdentity | None":
        """The identity that `to_json` wrote; None for any other text."""
        try:
            values = json.loads(text)
            names = str(values["host"]), str(values["place"])
            return cls(*names, int(values["pid"]), float(values["start_s"]))
        except (ValueError, TypeError, KeyError):
            return None


def _place() -> str:
    if sys.platform != "linux":
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start_s(pid: int) -> float | None:
    """Start time of a process (s); None if it does not exist or is a zombie."""
    if sys.platform != "linux":
        return psutil.Process(pid).create_time() if psutil.pid_exists(pid) else None
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[_STATE] in "ZX":
        return None
    # psutil's start time moves with the clock; this one does not
    return int(fields[_START_TICKS]) / os.sysconf("SC_CLK_TCK")
