"""The directories of a TIFF file, counted and held against limits before any library follows them.

Libraries follow what a file says: to a directory that was there before, to a million of them, to a
tile that takes a terabyte, in native code that ends the process where memory ends. Whatever else is
wrong with a file they find out.
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
"""Slides have a dozen, stacks of planes some hundred; libtiff takes a second to walk 4,000."""

MAX_ENTRIES = 4096
"""In a directory; real ones have up to about a hundred. (NDPI)"""

MAX_SIDE_PX = 2**20
"""Longest side of an image (px): 105 mm where a pixel measures 0.1 um, 262 mm at 0.25."""

MAX_TILE_PX = 2**26
"""Largest tile (px): 256 MB as RGBA; writers use 240 to 4,096 px a side."""

MAX_TILES = 2**22
"""Tiles of an image: 270 gigapixels at 256 px."""

_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _SUB_DIRECTORIES = (
    256,
    257,
    322,
    323,
    324,
    330,
)
"""Tags. (TIFF 6.0; 330: TIFF Technical Note 1)"""

_BYTE_COUNTS = (279, 325)
"""Tags that say how many bytes each strip and each tile takes. (TIFF 6.0)"""

_INTEGERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types SHORT, LONG, IFD, LONG8 and IFD8, and how `struct` calls them. (TIFF 6.0, page 15; BigTIFF,
libtiff)"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory.

    Attributes:
        place: where it begins in the file (B).
        kind: its type.
        count: of its values.
        values: themselves, where they are whole numbers in the file and at most `MAX_DIRECTORIES`.
    """

    place: int
    kind: int
    count: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory.

    Attributes:
        place: where it begins in the file (B).
        entries: by tag; of a tag that stands twice, the first.
        next_place: where the pointer to the next one stands (B).
        largest_bytes: the most that it says that a strip or tile takes (B).
    """

    place: int
    entries: dict[int, Entry]
    next_place: int
    largest_bytes: int

    def number(self, tag: int) -> int:
        """The value of a tag that has one whole number, else 0."""
        values = self.entries[tag].values if tag in self.entries else ()
        return values[0] if len(values) == 1 else 0


def check_directories(path: Path, slide_id: str) -> None:
    """Nothing, if a TIFF file's directories are within the limits of this module and none stands
    twice.

    Raises:
        SlideOpenError: otherwise.
        OSError: if the file cannot be read.
    """
    with _refusing(path, slide_id):
        for directory in directories(path):
            _check_sizes(directory)


def check_tile_bytes(path: Path, slide_id: str) -> None:
    """Nothing, if no tile or strip of a TIFF file is said to take more than the file has.

    OpenSlide asks for that much memory, and ends the process where there is less.

    Raises:
        SlideOpenError: otherwise.
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    with _refusing(path, slide_id):
        largest = max((directory.largest_bytes for directory in directories(path)), default=0)
        if largest > size:
            raise ValueError(
                f"it says that a tile takes {largest} bytes, more than it has ({size})"
            )


@contextmanager
def _refusing(path: Path, slide_id: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise SlideOpenError(
            f"slide {slide_id}: {path} is TIFF, but {error}. No slide is like that: the file is damaged, or made to do "
            "damage. Copy it again from where it was scanned or archived, or leave it out"
        ) from error


def directories(path: Path) -> Iterator[Directory]:
    """The directories of a TIFF file, each followed by its subdirectories. What lies outside the
    file is left out.

    Raises:
        ValueError: if one is pointed to twice, there are more than `MAX_DIRECTORIES`, or one has
            more than `MAX_ENTRIES`.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        tiff = _Tiff(file, path.stat().st_size)
        waiting, seen = [tiff.first], {0}
        while waiting:
            place = waiting.pop()
            if place == 0 or place >= tiff.size:
                continue
            if place in seen:
                raise ValueError(
                    f"its directories run in a circle: that at byte {place} is pointed to twice"
                )
            if len(seen) > MAX_DIRECTORIES:
                raise ValueError(f"it has more than {MAX_DIRECTORIES} directories")
            seen.add(place)
            directory = tiff.directory(place)
            yield directory
            below = directory.entries.get(_SUB_DIRECTORIES)
            waiting += [tiff.pointer(directory.next_place), *(below.values if below else ())]


def _check_sizes(directory: Directory) -> None:
    width, length = directory.number(_WIDTH), directory.number(_LENGTH)
    if max(width, length) > MAX_SIDE_PX:
        raise ValueError(
            f"it says that an image has {width} x {length} px, more than {MAX_SIDE_PX} on a side"
        )
    tile = directory.number(_TILE_WIDTH), directory.number(_TILE_LENGTH)
    if tile[0] * tile[1] > MAX_TILE_PX:
        raise ValueError(
            f"it says that a tile has {tile[0]} x {tile[1]} px, more than {MAX_TILE_PX} together"
        )
    offsets = directory.entries.get(_TILE_OFFSETS)
    if offsets and offsets.count > MAX_TILES:
        raise ValueError(f"it lists {offsets.count} tiles of one image, more than {MAX_TILES}")


class _Tiff:
    """Reads the structure of TIFF and BigTIFF in both byte orders, and of NDPI, whose pointers have
    8 bytes in TIFF.

    Args:
        file: at its beginning.
        size: of the file (B).
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        head = file.read(16).ljust(16, b"\0")
        self._file, self.size = file, size
        self._order = ">" if head.startswith(b"MM") else "<"
        big = head[2:4] in (b"+\0", b"\0+")
        self._count, self._entry, word = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
        self._pointer = (
            "Q" if size > 2**32 else word
        )  # TIFF of that size is NDPI. (openslide-decode-tifflike.c)
        self._word_bytes = struct.calcsize(word)
        (self.first,) = struct.unpack_from(self._order + self._pointer, head, 8 if big else 4)

    def directory(self, place: int) -> Directory:
        """The directory at a place.

        Raises:
            ValueError: if it has too many entries.
        """
        (count,) = self._numbers(place, self._count, 1) or (0,)
        if count > MAX_ENTRIES:
            raise ValueError(
                f"its directory at byte {place} has {count} entries, more than {MAX_ENTRIES}"
            )
        begin = place + struct.calcsize(self._count)
        side = struct.calcsize("<" + self._entry)
        found: dict[int, Entry] = {}
        for k, (tag, kind, number, _) in enumerate(self._rows(begin, count, side)):
            at = begin + k * side
            found.setdefault(
                tag,
                Entry(at, kind, number, self._values(kind, number, at + side - self._word_bytes)),
            )
        largest = max(
            (self._largest(found[tag], side) for tag in _BYTE_COUNTS if tag in found), default=0
        )
        return Directory(place, found, begin + count * side, largest)

    def pointer(self, place: int) -> int:
        """The pointer at a place; 0 where the file ends."""
        return (self._numbers(place, self._pointer, 1) or (0,))[0]

    def _values(self, kind: int, count: int, field: int) -> tuple[int, ...]:
        """The whole numbers of an entry whose value field is at ``field``, unless they are too
        many.
        """
        if kind not in _INTEGERS or not 0 < count <= MAX_DIRECTORIES:
            return ()
        return self._numbers(self._place(kind, count, field), _INTEGERS[kind], count)

    def _largest(self, entry: Entry, side: int) -> int:
        """The largest of an entry's whole numbers, as far as they are in the file; the entry takes
        ``side`` bytes.
        """
        if entry.kind not in _INTEGERS or not 0 < entry.count <= MAX_TILES:
            return 0
        place = self._place(entry.kind, entry.count, entry.place + side - self._word_bytes)
        code = _INTEGERS[entry.kind]
        data = self._bytes(place, struct.calcsize(code) * entry.count)
        whole = len(data) // struct.calcsize(code)
        return int(np.frombuffer(data, f"{self._order}{code}", whole).max(initial=0))

    def _place(self, kind: int, count: int, field: int) -> int:
        """Where values begin: in the field itself, where they fit, or where it points to."""
        if struct.calcsize(_INTEGERS[kind]) * count <= self._word_bytes:
            return field
        return (self._numbers(field, "Q" if self._word_bytes == 8 else "I", 1) or (self.size,))[0]

    def _rows(self, place: int, count: int, side: int) -> Iterator[tuple[int, ...]]:
        data = self._bytes(place, count * side)
        return struct.iter_unpack(self._order + self._entry, data[: len(data) // side * side])

    def _numbers(self, place: int, code: str, count: int) -> tuple[int, ...]:
        """So many numbers from a place on; () where the file ends before."""
        layout = f"{self._order}{count}{code}"
        data = self._bytes(place, struct.calcsize(layout))
        return struct.unpack(layout, data) if len(data) == struct.calcsize(layout) else ()

    def _bytes(self, place: int, count: int) -> bytes:
        if place >= self.size:
            return b""
        self._file.seek(place)
        return self._file.read(count)
