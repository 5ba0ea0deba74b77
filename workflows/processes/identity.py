"""Who runs: a process that can be told from every other one, and what one left behind from what one
uses.
"""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process on some machine.

    Attributes:
        host: name of the machine.
        place: where its number means something: boot and, in a container, process namespace.
        pid: its number there.
        start_s: when it began (s since boot on Linux, else since 1970), for numbers are given away
            again.
    """

    host: str
    place: str
    pid: int
    start_s: float

    @classmethod
    def me(cls) -> "ProcessIdentity":
        """This process."""
        start_s = _start_s(os.getpid())
        assert start_s is not None  # noqa: S101 - it runs
        return cls(platform.node(), _place(), os.getpid(), start_s)

    @property
    def is_here(self) -> bool:
        """Whether its number means something in this place."""
        return (self.host, self.place) == (platform.node(), _place())

    @property
    def is_gone(self) -> bool:
        """Whether it has ended for certain: it ran in this place, and no process here is it."""
        return self.is_here and _start_s(self.pid) != self.start_s

    def to_json(self) -> str:
        """One line; see `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ProcessIdentity | None":
        """What `to_json` made; None for anything else."""
        try:
            values = json.loads(text)
            return cls(
                str(values["host"]),
                str(values["place"]),
                int(values["pid"]),
                float(values["start_s"]),
            )
        except (ValueError, TypeError, KeyError):
            return None


def _place() -> str:
    if sys.platform != "linux":
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


def _start_s(pid: int) -> float | None:
    """When a process began; None if there is none, or only what is left of one (a zombie)."""
    if sys.platform != "linux":
        return psutil.Process(pid).create_time() if psutil.pid_exists(pid) else None
    try:
        state, *fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return (
        None if state in "ZX" else int(fields[18]) / os.sysconf("SC_CLK_TCK")
    )  # field 22 of proc(5): unlike psutil's, no clock moves it
