"""Process identity (host, boot id, pid, start time), used to tell stale files from files in use."""

import json
import os
import platform
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_MACHINE_ID = Path("/etc/machine-id")
"""File with the id of an installed system, 32 hexadecimal digits. (machine-id(5))"""

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
        machine: id of the installed system; "" if it has none, as in many containers.
    """

    host: str
    place: str
    pid: int
    start_s: float
    machine: str = ""

    @classmethod
    def me(cls) -> "ProcessIdentity":
        """The identity of this process."""
        start_s = _start_s(os.getpid())
        assert start_s is not None  # noqa: S101 - this process runs
        return cls(platform.node(), _place(), os.getpid(), start_s, _machine())

    @property
    def is_here(self) -> bool:
        """True if the process number is valid here: same machine, boot and namespace."""
        return (self.host, self.place) == (platform.node(), _place())

    @property
    def is_gone(self) -> bool:
        """True if the process has ended for certain; False where that cannot be known here."""
        return self.is_here and _start_s(self.pid) != self.start_s

    @property
    def is_of_an_earlier_boot(self) -> bool:
        """True if this machine seems to have started again since the process started.

        Host name and machine id are the same, and the boot id is another one. Containers on two
        hosts can have both in common, so the caller also compares a last sign of life with
        `uptime_s`. Containers on one host share its boot id.
        """
        same = (self.host, self.machine) == (platform.node(), _machine()) and self.machine
        return bool(same) and _boot(self.place) != _boot(_place())

    def to_json(self) -> str:
        """The identity as one line of JSON; see `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ProcessIdentity | None":
        """The identity that `to_json` wrote; None for any other text."""
        try:
            values = json.loads(text)
            names = str(values["host"]), str(values["place"])
            numbers = int(values["pid"]), float(values["start_s"])
            return cls(*names, *numbers, str(values.get("machine", "")))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
            return None


def uptime_s() -> float:
    """Time since this machine started (s), with the time that it was suspended."""
    if sys.platform != "linux":
        return time.time() - psutil.boot_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _machine() -> str:
    """Id of the installed system; "" if it has none."""
    try:
        text = _MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return text if re.fullmatch("[0-9a-f]{32}", text) else ""


def _boot(place: str) -> str:
    """Boot id of a place; "" where there is none."""
    return place.partition(" ")[0]


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
