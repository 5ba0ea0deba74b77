"""Files that the viewer serves: found without a way out of their folder, and read in parts."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.errors import NoctileError
from noctile.pipeline.untrusted import open_regular

_PART_BYTES = 2**18

_MOST_PARTS = 16
"""Deepest path that is served; a shard of a mask lies 8 folders deep."""

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".geojson": "application/geo+json; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".log": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
}
"""Type of the files that a browser may show, by their suffix. Others are downloads."""


class NoFileError(NoctileError):
    """There is no such file, or it is not served."""


@dataclass(frozen=True, slots=True)
class Found:
    """File that may be served.

    Attributes:
        path: path of the file.
        size: size (B).
        modified_ns: time of modification (ns).
    """

    path: Path
    size: int
    modified_ns: int

    @property
    def etag(self) -> str:
        """Value of the header ``Etag``: it changes with size and time of modification."""
        return f'"{self.size:x}-{self.modified_ns:x}"'

    @property
    def type(self) -> str:
        """Media type by the suffix of the name."""
        return TYPES.get(self.path.suffix.lower(), "application/octet-stream")


def find_entry(folder: Path, name: str) -> Path:
    """Find a file or a folder inside a folder. No link is followed, and nothing hidden is found.

    Args:
        folder: the folder.
        name: path inside the folder, with ``/`` between its parts; "" for the folder itself.

    Raises:
        NoFileError: if there is no such entry, or it may not be served.
    """
    parts, path = name.rstrip("/").split("/") if name.rstrip("/") else [], folder
    if len(parts) > _MOST_PARTS or not all(map(_is_plain, parts)):
        raise NoFileError("there is no such file")
    for part in parts:
        path /= part
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError) as error:
            raise NoFileError("there is no such file") from error
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise NoFileError("links, pipes and devices are not served")
    return path


def find_file(folder: Path, name: str) -> Found:
    """Find a file inside a folder, see `find_entry`.

    Raises:
        NoFileError: if there is no such file, or it may not be served.
    """
    path = find_entry(folder, name)
    try:
        about = path.lstat()
    except OSError as error:
        raise NoFileError("there is no such file") from error
    if not stat.S_ISREG(about.st_mode):
        raise NoFileError("it is a folder, not a file")
    return Found(path, about.st_size, about.st_mtime_ns)


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """List the names of the folders and of the files in a folder that are served, both sorted.

    Raises:
        NoFileError: if it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if _is_plain(entry.name)]
            folders = [entry.name for entry in shown if entry.is_dir(follow_symlinks=False)]
            files = [entry.name for entry in shown if entry.is_file(follow_symlinks=False)]
    except OSError as error:
        raise NoFileError("there is no such folder") from error
    return sorted(folders), sorted(files)


def read_part(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Read the bytes from ``start`` to ``stop`` of a file, in parts of at most 256 KiB.

    Raises:
        OSError: if the file cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        file.seek(start)
        while start < stop and (part := file.read(min(_PART_BYTES, stop - start))):
            start += len(part)
            yield part


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Bytes that a request wants of a file, as start and stop; None for the whole file.

    Args:
        header: value of the header ``Range``. Only one range of bytes is understood; with others
            the whole file is sent, as RFC 9110 allows.
        size: size of the file (B).

    Raises:
        ValueError: if the range lies outside the file.
    """
    unit, _, wanted = (header or "").partition("=")
    first, dash, last = (part.strip() for part in wanted.partition("-"))
    numbers = all((part.isascii() and part.isdigit()) or not part for part in (first, last))
    if unit.strip().lower() != "bytes" or not dash or not numbers or len(wanted) > 40:
        return None
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise ValueError(f"the file has {size} bytes")
    return start, stop


def _is_plain(name: str) -> bool:
    r"""Tell if a name is that of an entry which is served: not hidden, without ``\`` and NUL."""
    return bool(name) and name[0] != "." and not set(name) & set("/\\\0:")
