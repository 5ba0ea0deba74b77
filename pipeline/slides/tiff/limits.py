"""Limits on the directories of a TIFF file, checked before any library follows them.

Libraries trust a file: they follow directories in a circle, or a million of them, and allocate a
terabyte for a tile, in native code that ends the process if memory runs out. The libraries find all
other errors.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from noctile.pipeline.errors import SlideOpenError

MAX_DIRECTORIES = 4096
"""Most directories of a file. Slides have a dozen, stacks of planes some hundred. libtiff takes a
second for 4,000."""

MAX_ENTRIES = 4096
"""Most entries of a directory. Real ones have up to about a hundred. (NDPI)"""

MAX_SIDE_PX = 2**20
"""Longest side of an image (px): 105 mm with pixels of 0.1 um, 262 mm with 0.25 um."""

MAX_TILE_PX = 2**26
"""Largest tile (px): 256 MB as RGBA. Writers use sides of 240 to 4,096 px."""

MAX_TILES = 2**22
"""Most tiles of an image: 270 gigapixels with tiles of 256 px."""

_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _SUB_DIRECTORIES = (
    256,
    257,
    322,
    323,
    324,
    330,
)
"""Numbers of tags. (TIFF 6.0; 330: TIFF Technical Note 1)"""

_BYTE_COUNTS = (279, 325)
"""Tags with the number of bytes of each strip and each tile. (TIFF 6.0)"""

_INTEGERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types SHORT, LONG, IFD, LONG8 and IFD8, and their formats in `struct`. (TIFF 6.0, page 15;
BigTIFF, libtiff)"""


@dataclass(frozen=True, slots=True)
class Entry:
    """Entry of a directory.

    Attributes:
        offset: offset of the entry in the file (B).
        kind: number of its type.
        count: number of its values.
        values: its values, if they are whole numbers inside the file and at most `MAX_DIRECTORIES`;
            else empty.
    """

    offset: int
    kind: int
    count: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """Directory of an image in a TIFF file.

    Attributes:
        offset: offset of the directory in the file (B).
        entries: first entry of each tag.
        next_offset: offset of the pointer to the next directory (B).
        largest_bytes: largest size of a strip or tile that the directory states (B).
    """

    offset: int
    entries: dict[int, Entry]
    next_offset: int
    largest_bytes: int

    def number(self, tag: int) -> int:
        """Value of a tag with one whole number; 0 for other tags."""
        values = self.entries[tag].values if tag in self.entries else ()
        return values[0] if len(values) == 1 else 0


def check_directories(path: Path, slide_id: str) -> None:
    """Check the directories of a TIFF file: each is used once, and all are within the limits.

    Args:
        path: the file.
        slide_id: name of the slide, for messages.

    Raises:
        SlideOpenError: if they are not.
        OSError: if the file cannot be read.
    """
    with _open_errors(path, slide_id):
        for directory in directories(path):
            _check_sizes(directory)


def check_tile_bytes(path: Path, slide_id: str) -> None:
    """Check that no tile or strip of a TIFF file states more bytes than the file has.

    OpenSlide allocates the stated size, and ends the process if memory runs out.

    Args:
        path: the file.
        slide_id: name of the slide, for messages.

    Raises:
        SlideOpenError: if one does.
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    with _open_errors(path, slide_id):
        largest = max((directory.largest_bytes for directory in directories(path)), default=0)
        if largest > size:
            raise ValueError(
                f"it states {largest} bytes for a tile, more than the file has ({size})"
            )


@contextmanager
def _open_errors(path: Path, slide_id: str) -> Iterator[None]:
    """Turn a ValueError of a check into a SlideOpenError."""
    try:
        yield
    except ValueError as error:
        raise SlideOpenError(
            f"slide {slide_id}: {path} is TIFF, but {error}. No real slide does this: the file is "
            "damaged, or made to do damage. Copy it again from where it was scanned or archived, "
            "or leave it out"
        ) from error


def directories(path: Path) -> Iterator[Directory]:
    """Read the directories of a TIFF file, each followed by its subdirectories.

    Directories outside the file are left out.

    Raises:
        ValueError: if two pointers lead to one directory, there are more than `MAX_DIRECTORIES`, or
            one has more than `MAX_ENTRIES`.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        tiff = _Tiff(file, path.stat().st_size)
        waiting, seen = [tiff.first], {0}
        while waiting:
            offset = waiting.pop()
            if offset == 0 or offset >= tiff.size:
                continue
            if offset in seen:
                raise ValueError(
                    f"its directories run in a circle: two pointers lead to byte {offset}"
                )
            if len(seen) > MAX_DIRECTORIES:
                raise ValueError(f"it has more than {MAX_DIRECTORIES} directories")
            seen.add(offset)
            directory = tiff.directory(offset)
            yield directory
            below = directory.entries.get(_SUB_DIRECTORIES)
            waiting += [tiff.pointer(directory.next_offset), *(below.values if below else ())]


def _check_sizes(directory: Directory) -> None:
    width, length = directory.number(_WIDTH), directory.number(_LENGTH)
    if max(width, length) > MAX_SIDE_PX:
        raise ValueError(
            f"it states an image of {width} x {length} px, more than {MAX_SIDE_PX} on a side"
        )
    tile = directory.number(_TILE_WIDTH), directory.number(_TILE_LENGTH)
    if tile[0] * tile[1] > MAX_TILE_PX:
        raise ValueError(
            f"it states tiles of {tile[0]} x {tile[1]} px, more than {MAX_TILE_PX} px in all"
        )
    offsets = directory.entries.get(_TILE_OFFSETS)
    if offsets and offsets.count > MAX_TILES:
        raise ValueError(f"it lists {offsets.count} tiles of one image, more than {MAX_TILES}")


class _Tiff:
    """Parser of the structure of TIFF and BigTIFF, in both byte orders.

    It also parses NDPI, which is TIFF with pointers of 8 bytes.

    Args:
        file: the open file, at its beginning.
        size: size of the file (B).
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        head = file.read(16).ljust(16, b"\0")
        self._file, self.size = file, size
        self._order = ">" if head.startswith(b"MM") else "<"
        big = head[2:4] in (b"+\0", b"\0+")
        self._count, self._entry, word = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
        # TIFF of more than 4 GB is NDPI. (openslide-decode-tifflike.c)
        self._pointer = "Q" if size > 2**32 else word
        self._word_bytes = struct.calcsize(word)
        (self.first,) = struct.unpack_from(self._order + self._pointer, head, 8 if big else 4)

    def directory(self, offset: int) -> Directory:
        """Read the directory at an offset.

        Raises:
            ValueError: if it has too many entries.
        """
        (count,) = self._numbers(offset, self._count, 1) or (0,)
        if count > MAX_ENTRIES:
            raise ValueError(
                f"its directory at byte {offset} has {count} entries, more than {MAX_ENTRIES}"
            )
        begin = offset + struct.calcsize(self._count)
        entry_bytes = struct.calcsize("<" + self._entry)
        found: dict[int, Entry] = {}
        for k, (tag, kind, number, _) in enumerate(self._rows(begin, count, entry_bytes)):
            entry_offset = begin + k * entry_bytes
            field = entry_offset + entry_bytes - self._word_bytes
            found.setdefault(
                tag,
                Entry(entry_offset, kind, number, self._values(kind, number, field)),
            )
        largest = max(
            (self._largest(found[tag], entry_bytes) for tag in _BYTE_COUNTS if tag in found),
            default=0,
        )
        return Directory(offset, found, begin + count * entry_bytes, largest)

    def pointer(self, offset: int) -> int:
        """Pointer at an offset; 0 behind the end of the file."""
        return (self._numbers(offset, self._pointer, 1) or (0,))[0]

    def _values(self, kind: int, count: int, field: int) -> tuple[int, ...]:
        """Whole numbers of an entry; empty if there are too many.

        Args:
            kind: type of the entry.
            count: number of its values.
            field: offset of its value field (B).
        """
        if kind not in _INTEGERS or not 0 < count <= MAX_DIRECTORIES:
            return ()
        return self._numbers(self._values_offset(kind, count, field), _INTEGERS[kind], count)

    def _largest(self, entry: Entry, entry_bytes: int) -> int:
        """Largest of an entry's whole numbers inside the file.

        Args:
            entry: the entry.
            entry_bytes: size of an entry (B).
        """
        if entry.kind not in _INTEGERS or not 0 < entry.count <= MAX_TILES:
            return 0
        offset = self._values_offset(
            entry.kind, entry.count, entry.offset + entry_bytes - self._word_bytes
        )
        code = _INTEGERS[entry.kind]
        data = self._bytes(offset, struct.calcsize(code) * entry.count)
        whole = len(data) // struct.calcsize(code)
        return int(np.frombuffer(data, f"{self._order}{code}", whole).max(initial=0))

    def _values_offset(self, kind: int, count: int, field: int) -> int:
        """Offset of an entry's values: that of the field if they fit into it, else its pointer."""
        if struct.calcsize(_INTEGERS[kind]) * count <= self._word_bytes:
            return field
        return (self._numbers(field, "Q" if self._word_bytes == 8 else "I", 1) or (self.size,))[0]

    def _rows(self, offset: int, count: int, entry_bytes: int) -> Iterator[tuple[int, ...]]:
        data = self._bytes(offset, count * entry_bytes)
        return struct.iter_unpack(
            self._order + self._entry, data[: len(data) // entry_bytes * entry_bytes]
        )

    def _numbers(self, offset: int, code: str, count: int) -> tuple[int, ...]:
        """Numbers from an offset on; empty if the file ends before the last one."""
        layout = f"{self._order}{count}{code}"
        data = self._bytes(offset, struct.calcsize(layout))
        return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else ()

    def _bytes(self, offset: int, count: int) -> bytes:
        if offset >= self.size:
            return b""
        self._file.seek(offset)
        return self._file.read(count)
