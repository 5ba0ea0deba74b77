"""TIFF files byte by byte, so that they can say what no writer would let them say."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHORT, LONG, RATIONAL, LONG8 = 3, 4, 5, 16
_CODES = {1: "B", 2: "s", SHORT: "H", LONG: "I", RATIONAL: "II", 7: "B", LONG8: "Q"}

Entry = tuple[int, Sequence[int] | bytes]
"""Type and values of an entry; a tuple of three is type, count and what stands in the value field.
"""

RESOLUTION: dict[int, Any] = {
    282: (RATIONAL, (40_000, 1)),
    283: (RATIONAL, (40_000, 1)),
    296: (SHORT, (3,)),
}
"""Pixels of 0.25 um."""


def tiled(
    width: int,
    height: int,
    tile: tuple[int, int] = (256, 256),
    stream: bytes = b"\0" * 64,
    **more: Any,
) -> dict[str, Any]:
    """The directory of a tiled RGB image whose tiles are all the same bytes; ``more`` are further
    tags, as ``t325``."""
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
    """The same in one strip."""
    tags = {tag: value for tag, value in image["tags"].items() if tag not in {322, 323}}
    return {**image, "tags": tags | {278: tags[257]}, "tiles": 1}


def write(path: Path, *images: dict[str, Any], big: bool = False, then: int | None = None) -> Path:
    """A file of some directories; ``then`` is where the last one points to: None is nowhere, 0 the
    first directory."""
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
    """Type, count and value field of an entry; what does not fit in the field goes to the end of
    the data."""
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
