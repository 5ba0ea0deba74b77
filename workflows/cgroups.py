"""Limits of memory and CPU time that Linux sets for this process: containers and batch jobs.

A process belongs to a control group, and each group lies in a parent group. The limits of all of
them hold, so the smallest counts. A batch system often sets its limit two or three groups above the
process. Versions 1 and 2 of control groups are read, also where a machine has both.
(man 7 cgroups; docs.kernel.org, "Control Group v2")
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_V2 = "cgroup2"

_MEMORY_FILES = ("memory.max", "memory.high", "memory.limit_in_bytes")
"""Files with a memory limit (B): two of version 2, one of version 1. Above `memory.high` the kernel
slows a process down so much that the limit counts as the other one."""


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """Limits of the control groups of a process.

    Attributes:
        memory_bytes: memory that the processes of the group may hold together (B); ``inf`` without
            a limit.
        cpus: cores whose time the group may use, e.g. 1.5; ``inf`` without a limit.
    """

    memory_bytes: float = math.inf
    cpus: float = math.inf


@dataclass(frozen=True, slots=True)
class _Mount:
    """A tree of control groups that is mounted.

    Attributes:
        controllers: controllers of the tree, e.g. ``memory``; `_V2` alone for version 2.
        root: group that is mounted, as a path in its tree.
        folder: folder at which it is mounted.
    """

    controllers: frozenset[str]
    root: PurePosixPath
    folder: PurePosixPath


def cgroup_limits(root: Path = Path("/")) -> CgroupLimits:
    """The limits of this process; no limit where there are no control groups.

    Args:
        root: root of the file system; tests give a folder with files of their own.
    """
    groups = dict(_own_groups(root))
    folders = [
        folder
        for mount in _mounts(root)
        for controller in mount.controllers & groups.keys()
        for folder in _with_parents(root, mount, groups[controller])
    ]
    return CgroupLimits(
        min((limit for folder in folders for limit in _memory_limits(folder)), default=math.inf),
        min((limit for folder in folders for limit in _cpu_limits(folder)), default=math.inf),
    )


def _own_groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """Each controller with the group of this process in its tree."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for controller in controllers.split(",") if controllers else (_V2,):
            yield controller, PurePosixPath(group)


def _mounts(root: Path) -> Iterator[_Mount]:
    """The mounted trees of control groups."""
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(" "), kind.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        paths = [PurePosixPath(_unescaped(field)) for field in fields[3:5]]
        if kinds[0] == _V2:
            yield _Mount(frozenset({_V2}), *paths)
        elif kinds[0] == "cgroup":
            yield _Mount(frozenset(kinds[2].split(",")), *paths)


def _with_parents(root: Path, mount: _Mount, group: PurePosixPath) -> Iterator[Path]:
    """The folders of a group and of all groups above it, as far as they are mounted.

    A container may see its own group as the root of the tree, under its name outside. Then the
    folder of the mount is the group.
    """
    inside = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    if ".." in inside.parts:
        inside = PurePosixPath()
    for part in (inside, *inside.parents):
        yield root / (mount.folder / part).relative_to("/")


def _memory_limits(folder: Path) -> Iterator[int]:
    """Memory limits of a group (B)."""
    for name in _MEMORY_FILES:
        yield from (int(word) for word in _words(folder / name) if word.isdigit())
    for line in _lines(folder / "memory.stat"):  # version 1 says there what its parents allow
        name, _, value = line.partition(" ")
        if name == "hierarchical_memory_limit" and value.isdigit():
            yield int(value)


def _cpu_limits(folder: Path) -> Iterator[float]:
    """Limits of a group's CPU time (cores)."""
    both = _words(folder / "cpu.max") or [
        word for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us") for word in _words(folder / name)
    ]
    if len(both) == 2 and all(word.isdigit() for word in both) and int(both[1]):
        yield int(both[0]) / int(both[1])


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    """Lines of a file of the kernel; none if it cannot be read."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return []


def _unescaped(field: str) -> str:
    """A path of mountinfo, in which spaces and the like are written in octal."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field
