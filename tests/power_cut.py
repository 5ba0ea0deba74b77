"""Power cuts: states in which a disk may be left, made from the recorded writes of a program.

`record` runs a program under ``strace``. `Recording.after_cut` replays its writes up to a moment
and loses, tears or keeps what was not synced by then. Each name and the content of each file is
lost on its own. That is less than ext4, XFS and Btrfs promise: their journals keep an order.
"""

import os
import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CALLS = (
    "openat,write,pwrite64,lseek,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,fsync,fdatasync,writev,pwritev,truncate,symlink,copy_file_range,sendfile"
)
_LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) = (\d+)(?:<(.*)>)?$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>")
_ROOT = 0

Name = tuple[int, str]
"""Number of a folder, and a name in it."""


@dataclass(frozen=True)
class Change:
    """One write that a power cut may lose.

    Attributes:
        names: new file or folder (its number) of each name; None where the name was removed.
        folder: folder whose sync keeps the names; None for a change of content or a sync.
        file: file whose content is written, or which is synced; None for a change of names.
        offset: position of the bytes in the file; with ``data`` None, its new size.
        data: bytes that were written; None if the file was cut.
        sync: True for a sync of ``file``, which may be a folder.
    """

    names: dict[Name, int | None] = field(default_factory=dict)
    folder: int | None = None
    file: int | None = None
    offset: int = 0
    data: bytes | None = None
    sync: bool = False


class Recording:
    """Writes of a program below a folder.

    Args:
        top: folder that was watched.
        lines: lines of ``strace``, in order of time.
        before: copy of the folder as it was before the program; None if it was empty.
    """

    def __init__(self, top: Path, lines: Sequence[str], before: Path | None) -> None:
        self._top, self._folders = top, {_ROOT}
        self._names: dict[Name, int] = {}
        self._offsets: dict[int, int] = {}
        self._next = 1
        self.changes: list[Change] = []
        if before:
            self._load(before, _ROOT)
        self.first = len(self.changes)
        for line in lines:
            if match := _LINE.match(line):
                self._take(match[2], match[3], int(match[4]), _text(match[5] or ""))

    def _load(self, path: Path, folder: int) -> None:
        for entry in sorted(path.iterdir()):
            number = self._new((folder, entry.name), is_folder=entry.is_dir())
            if entry.is_dir():
                self._load(entry, number)
            else:
                self.changes.append(Change(file=number, data=entry.read_bytes()))
                self.changes.append(Change(file=number, sync=True))
        self.changes.append(Change(file=folder, sync=True))

    def _take(self, call: str, text: str, result: int, opened: str) -> None:
        strings = [bytes.fromhex(s.replace("\\x", "")) for s in _STRING.findall(text)]
        fds = [(fd, _text(path)) for fd, path in _FD.findall(text)]
        if call in ("writev", "pwritev", "truncate", "symlink", "copy_file_range", "sendfile"):
            assert not any(self._find(path) for _, path in fds), f"{call} is not understood"
        elif call == "openat":
            self._open(opened, text, result)
        elif call in ("rename", "renameat", "renameat2", "link", "linkat"):
            self._move(*_paths(fds, strings), keep=call.startswith("link"))
        elif call in ("unlink", "unlinkat", "rmdir"):
            self._remove(_paths(fds, strings)[0])
        elif call in ("mkdir", "mkdirat"):
            if name := self._name(_paths(fds, strings)[0]):
                self._new(name, is_folder=True)
        elif (number := self._find(fds[0][1])) is not None:
            self._write(call, int(fds[0][0]), number, text, strings, result)

    def _open(self, path: str, flags: str, fd: int) -> None:
        if not (name := self._name(path)):
            return
        if "O_CREAT" in flags and name not in self._names:
            self._new(name, is_folder=False)
        elif "O_TRUNC" in flags:
            self.changes.append(Change(file=self._names[name]))
        self._offsets[fd] = -1 if "O_APPEND" in flags else 0

    def _write(
        self, call: str, fd: int, number: int, text: str, strings: list[bytes], result: int
    ) -> None:
        if call in ("fsync", "fdatasync"):
            self.changes.append(Change(file=number, sync=True))
        elif call == "ftruncate":
            self.changes.append(Change(file=number, offset=int(text.rpartition(",")[2])))
        elif call == "lseek":
            self._offsets[fd] = result
        else:
            end = call == "write" and self._offsets[fd] == -1
            offset = self._size(number) if end else self._offsets[fd]
            if call == "pwrite64":
                offset = int(text.rpartition(",")[2])
            elif not end:
                self._offsets[fd] += result
            self.changes.append(Change(file=number, offset=offset, data=strings[0][:result]))

    def _size(self, number: int) -> int:
        return len(_content([c for c in self.changes if c.file == number and not c.sync]))

    def _new(self, name: Name, *, is_folder: bool) -> int:
        number, self._next = self._next, self._next + 1
        if is_folder:
            self._folders.add(number)
        self._set({name: number})
        return number

    def _move(self, source: str, target: str, *, keep: bool) -> None:
        a, b = self._name(source), self._name(target)
        if a and b:
            self._set({b: self._names[a]} if keep else {b: self._names[a], a: None})

    def _remove(self, path: str) -> None:
        if name := self._name(path):
            self._set({name: None})

    def _set(self, names: dict[Name, int | None]) -> None:
        self.changes.append(Change(names, folder=next(iter(names))[0]))
        for name, number in names.items():
            if number is None:
                self._names.pop(name, None)
            else:
                self._names[name] = number

    def _name(self, path: str) -> Name | None:
        """Folder and name of a path below the top; None if it is elsewhere, or its folder gone."""
        if not Path(path).is_relative_to(self._top) or Path(path) == self._top:
            return None
        folder = self._find(str(Path(path).parent))
        return None if folder is None else (folder, Path(path).name)

    def _find(self, path: str) -> int | None:
        if Path(path) == self._top:
            return _ROOT
        return self._names.get(name) if (name := self._name(path)) else None

    def after_cut(self, moment: int, rng: random.Random, folder: Path) -> None:
        """Write the state of the watched folder after a power cut.

        Args:
            moment: number of changes that the program had made.
            rng: chooses what is lost.
            folder: folder for the state; it must not exist.
        """
        changes = self.changes[:moment]
        names = _kept_names(changes, rng)
        contents: dict[int, list[Change]] = defaultdict(list)
        for number in {c.file for c in changes if c.file is not None}:
            contents[number] = [c for c in changes if c.file == number]
        self._write_out(folder, _ROOT, names, contents, rng)

    def _write_out(
        self,
        path: Path,
        number: int,
        names: dict[Name, int],
        contents: dict[int, list[Change]],
        rng: random.Random,
    ) -> None:
        if number not in self._folders:
            path.write_bytes(_left_of(contents[number], rng))
            return
        path.mkdir()
        for (folder, name), child in sorted(names.items()):
            if folder == number:
                self._write_out(path / name, child, names, contents, rng)


def _kept_names(changes: Sequence[Change], rng: random.Random) -> dict[Name, int]:
    """Names that are on the disk: those that were synced, and some of the others."""
    forced: set[Name] = set()
    synced: set[int] = set()
    must = []
    for change in reversed(changes):
        if change.sync and change.file is not None:
            synced.add(change.file)
        keep = change.folder in synced or bool(forced & change.names.keys())
        forced |= change.names.keys() if keep else set()
        must.append(keep)
    share = rng.choice([0.0, 0.5, 0.9, 1.0])
    names: dict[Name, int] = {}
    lost: set[Name] = set()
    for change, keep in zip(changes, reversed(must), strict=True):
        if not keep and (lost & change.names.keys() or rng.random() >= share):
            lost |= change.names.keys()
            continue
        for name, number in change.names.items():
            if number is None:
                names.pop(name, None)
            else:
                names[name] = number
    return names


def _left_of(changes: Sequence[Change], rng: random.Random) -> bytes:
    """Content of a file: what was synced, and all, some or nothing of what was written since."""
    last = max((k for k, change in enumerate(changes) if change.sync), default=-1)
    kept = [change for change in changes[:last] if not change.sync]
    later = [change for change in changes[last + 1 :] if not change.sync]
    match rng.choice(["all", "none", "torn", "zeros", "some"]):
        case "all":
            kept += later
        case "torn":
            n = rng.randrange(len(later) + 1)
            whole = _content(kept + later[:n])
            synced = _content(kept)
            return (
                whole
                if len(whole) <= len(synced)
                else whole[: rng.randint(len(synced), len(whole))]
            )
        case "zeros":
            return _content(kept).ljust(len(_content(kept + later)), b"\0")
        case "some":
            kept += [change for change in later if rng.random() < 0.5]
    return _content(kept)


def _content(changes: Sequence[Change]) -> bytes:
    content = bytearray()
    for change in changes:
        if change.data is None:
            del content[change.offset :]
            continue
        content.extend(bytes(max(0, change.offset - len(content))))
        content[change.offset : change.offset + len(change.data)] = change.data
    return bytes(content)


def _paths(fds: Sequence[tuple[str, str]], strings: Sequence[bytes]) -> list[str]:
    """Absolute paths of the arguments of a call, each relative to the folder before it."""
    texts = [os.fsdecode(s) for s in strings]
    bases = [path for _, path in fds] or ["/"] * len(texts)
    return [os.path.normpath(Path(base, text)) for base, text in zip(bases, texts, strict=True)]


def _text(quoted: str) -> str:
    return os.fsdecode(bytes.fromhex(quoted.replace("\\x", "")))


def record(command: Sequence[str], top: Path, work: Path, before: Path | None) -> Recording:
    """Run a program and record its writes.

    Args:
        command: program and arguments.
        top: folder to watch.
        work: folder for the files of ``strace``; it must not exist.
        before: copy of ``top`` as it is before the program; None if it does not exist.
    """
    work.mkdir()
    options = ["-ff", "-o", str(work / "t"), "-ttt", "-y", "-xx", "-s", "100000000"]
    subprocess.run(["strace", *options, "-e", f"trace={_CALLS}", *command], check=True)
    lines = sorted(_lines(work), key=lambda line: float(line.partition(" ")[0]))
    return Recording(top, lines, before)


def _lines(work: Path) -> Iterator[str]:
    for path in sorted(work.iterdir()):
        with path.open() as file:
            yield from (line.rstrip("\n") for line in file if line[0].isdigit())
