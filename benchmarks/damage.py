"""Seeded damage to the bytes of a file: flipped bits, cut ends, edited tags and TIFF pointers."""

import random
import struct
import tempfile
from pathlib import Path
from typing import Any

from noctile.pipeline.slides.tiff.limits import directories

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    255,
    256,
    4096,
    2**15,
    2**16 - 1,
    2**20,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
"""Values for the type, count or value of a tag: zero, small, and the limits of integer types."""


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return a damaged copy of a file's bytes, and a description of the damage."""
    damage = rng.choice(
        [_flip, _flip_head, _truncate, _zero, _swap, _edit_tag, _edit_tag, _edit_tag, _edit_pointer]
    )
    out = bytearray(data)
    description = damage(out, rng)
    return bytes(out), description


def _flip(data: bytearray, rng: random.Random) -> str:
    count = 2 ** rng.randrange(10)
    for _ in range(count):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped"


def _flip_head(data: bytearray, rng: random.Random) -> str:
    count, most = 2 ** rng.randrange(6), min(len(data), 1024)
    for _ in range(count):
        data[rng.randrange(most)] ^= 1 << rng.randrange(8)
    return f"{count} bits of the first 1,024 bytes flipped"


def _truncate(data: bytearray, rng: random.Random) -> str:
    length = rng.randrange(len(data))
    del data[length:]
    return f"cut to {length} bytes"


def _range(data: bytearray, rng: random.Random) -> slice:
    length = min(len(data) // 4, 2 ** rng.randrange(17))
    start = rng.randrange(len(data) - length)
    return slice(start, start + length)


def _zero(data: bytearray, rng: random.Random) -> str:
    part = _range(data, rng)
    data[part] = bytes(part.stop - part.start)
    return f"bytes {part.start} to {part.stop} zeroed"


def _swap(data: bytearray, rng: random.Random) -> str:
    one = _range(data, rng)
    start = rng.randrange(len(data) - (one.stop - one.start))
    other = slice(start, start + one.stop - one.start)
    data[one], data[other] = data[other], data[one]
    return f"bytes from {one.start} and {other.start} swapped ({one.stop - one.start})"


def _edit_tag(data: bytearray, rng: random.Random) -> str:
    """Change the tag, type, count or value of an entry of a TIFF directory.

    In files that are no TIFF, flip bits of the head instead.
    """
    entries = [(tag, entry) for found in _directories(data) for tag, entry in found.entries.items()]
    if not entries:
        return _flip_head(data, rng)
    tag, entry = rng.choice(entries)
    order, big = (">" if data[:2] == b"MM" else "<"), 43 in data[2:4]
    fields = {
        "tag": (0, "H"),
        "type": (2, "H"),
        "count": (4, "Q" if big else "I"),
        "value": (12, "Q") if big else (8, "I"),
    }
    name = rng.choice(["tag", "type", "count", "count", "value", "value", "value", "value"])
    offset, code = fields[name]
    value = rng.choice(
        [*_NUMBERS, len(data), entry.offset, rng.randrange(len(data)), rng.randrange(20)]
    )
    value &= 256 ** struct.calcsize(code) - 1
    struct.pack_into(order + code, data, entry.offset + offset, value)
    return f"{name} of tag {tag} set to {value}"


def _edit_pointer(data: bytearray, rng: random.Random) -> str:
    """Change the pointer from a directory of a TIFF file to the next.

    In files that are no TIFF, flip bits of the head instead.
    """
    found = _directories(data)
    if not found:
        return _flip_head(data, rng)
    code = ("<", ">")[data[:2] == b"MM"] + ("I", "Q")[43 in data[2:4]]
    value = rng.choice(
        [*(one.offset for one in found), rng.randrange(len(data)), rng.choice(_NUMBERS)]
    )
    offset = rng.choice(found).next_offset
    if offset + struct.calcsize(code) > len(data):
        return _flip_head(data, rng)
    struct.pack_into(code, data, offset, value)
    return f"pointer to the next directory at {offset} set to {value}"


def _directories(data: bytearray) -> list[Any]:
    if bytes(data[:4]) not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return []
    with tempfile.NamedTemporaryFile(prefix="mutant-") as file:
        file.write(data)
        file.flush()
        return list(directories(Path(file.name)))
