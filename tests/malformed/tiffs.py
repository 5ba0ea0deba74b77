"""TIFF files made byte by byte, with values that no other writer allows."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
_CODES = {1: "B", 2: "s", SHORT: "H", LONG: "I", RATIONAL: "II", 7: "B", LONG8: "Q"}

Entry = tuple[int, Sequence[int] | bytes]
"""Type and values of an entry; a tuple of three is type, count and content of the value field."""

RESOLUTION: dict[int, Any] = {
    282: (RATIONAL, (40_000, 1)),
    283: (RATIONAL, (40_000, 1)),
    296: (SHORT, (3,)),
}
"""Tags for pixels of 0.25 um."""


def tiled(
    width: int,
    height: int,
    tile: tuple[int, int] = (256, 256),
    stream: bytes = b"\0" * 64,
    **more: Any,
) -> dict[str, Any]:
    """Make the directory of a tiled RGB image whose tiles all have the same bytes.

    Args:
        width: number of columns (px).
        height: number of rows (px).
        tile: width and height of a tile (px).
        stream: bytes of each tile.
        more: further tags, with names such as ``t325``.
    """
    across, down = -(-width // tile[0]), -(-height // tile[1])
    tags = {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (8, 8, 8)),
        259: (SHORT, (1,)),
        262: (SHORT, (2,)),
        277: (SHORT, (3,)),
        284: (SHORT, (1,)),
        322: (LONG, (tile[0],)),
        323: (LONG, (tile[1],)),
        **RESOLUTION,
        **{int(name[1:]): value for name, value in more.items()},
    }
    return {"tags": tags, "stream": stream, "tiles": min(across * down, 4096)}


def striped(image: dict[str, Any]) -> dict[str, Any]:
    """Convert the directory of a tiled image to one of one strip."""
    tags = {tag: value for tag, value in image["tags"].items() if tag not in {322, 323}}
    return {**image, "tags": tags | {278: tags[257]}, "tiles": 1}


def write(path: Path, *images: dict[str, Any], big: bool = False, then: int | None = None) -> Path:
    """Write a file of some directories.

    Args:
        path: the file.
        images: directories, see `tiled` and `striped`.
        big: True for BigTIFF.
        then: pointer of the last directory: None for the end, the index of a directory, or an
            offset (B).
    """
    word, pointer, head = ("Q", "<Q", 16) if big else ("I", "<I", 8)
    data = bytearray(
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0)
    )
    pointers = [head - struct.calcsize(pointer)]
    places = []
    for image in images:
        tags = dict(image["tags"])
        if image["stream"]:
            at = len(data)
            data += image["stream"]
            offsets, counts = (324, 325) if 322 in tags else (273, 279)
            tags.setdefault(offsets, (LONG8 if big else LONG, (at,) * image["tiles"]))
            tags.setdefault(
                counts, (LONG8 if big else LONG, (len(image["stream"]),) * image["tiles"])
            )
        fields = {tag: _field(data, entry, word) for tag, entry in sorted(tags.items())}
        data += b"\0" * (len(data) % 2)
        places.append(len(data))
        struct.pack_into(pointer, data, pointers[-1], places[-1])
        data += struct.pack("<Q" if big else "<H", len(fields))
        for tag, (kind, count, value) in fields.items():
            data += struct.pack(f"<HH{word}", tag, kind, count) + value
        pointers.append(len(data))
        data += bytes(struct.calcsize(pointer))
    if then is not None:
        struct.pack_into(pointer, data, pointers[-1], places[then] if then < len(places) else then)
    path.write_bytes(data)
    return path


def _field(data: bytearray, entry: Any, word: str) -> tuple[int, int, bytes]:
    """Make type, count and value field of an entry; larger values go to the end of the data."""
    if len(entry) == 3:
        return entry[0], entry[1], struct.pack(f"<{word}", entry[2])
    kind, values = entry
    packed = (
        bytes(values)
        if isinstance(values, bytes)
        else struct.pack(f"<{len(values)}{_CODES[kind][0]}", *values)
    )
    count = len(values) // (2 if kind == RATIONAL else 1)
    if len(packed) <= struct.calcsize(word):
        return kind, count, packed.ljust(struct.calcsize(word), b"\0")
    at = len(data)
    data += packed
    return kind, count, struct.pack(f"<{word}", at)
