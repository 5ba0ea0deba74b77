"""Slides that do damage: each ends in a documented error, in a short time and little memory."""

import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from malformed.calls import ids, open_and_read
from malformed.limits import within_limits
from malformed.tiffs import LONG, LONG8, SHORT, striped, tiled, write

from noctile.pipeline.errors import UsageError

NOISE = bytes(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def ends(path: Path) -> str:
    found = within_limits(open_and_read, path)
    assert isinstance(found, str), f"undocumented: {found!r}"
    return found


def huge(stated: int) -> Callable[[Path], Path]:
    return lambda path: write(path, tiled(300, 300, t256=(LONG, (stated,)), t257=(LONG, (stated,))))


def subdirectory_circle(path: Path) -> Path:
    """Write a directory that is its own subdirectory."""
    place = int.from_bytes(write(path, tiled(300, 300)).read_bytes()[4:8], "little")
    return write(path, tiled(300, 300, t330=(LONG, (place,))))


APERIO = b"Aperio Image Library v11\n300x300|AppMag = 40|MPP = 0.25\0"

MADE = {
    "2^31 px": huge(2**31),
    "2^32 - 1 px": huge(2**32 - 1),
    "2^20 x 2^20 px of 0.25 um": huge(2**20),
    "no width": huge(0),
    "tiles of 2^20 px": lambda p: write(p, tiled(2**18, 2**18, (2**20, 2**20))),
    "tiles of 2^16 px": lambda p: write(p, tiled(2**16, 2**16, (2**16, 2**16))),
    "tiles of 0 px": lambda p: write(p, tiled(300, 300, t322=(LONG, (0,)), t323=(LONG, (0,)))),
    "a circle of directories": lambda p: write(p, tiled(300, 300), tiled(150, 150), then=0),
    "a directory that is its own next": lambda p: write(p, tiled(300, 300), then=0),
    "a subdirectory that is its own": subdirectory_circle,
    "a million tiles a row": lambda p: write(p, tiled(2**20, 16, (1, 1))),
    "2^32 - 1 tiles": lambda p: write(
        p, tiled(300, 300, t324=(LONG, 2**32 - 1, 8), t325=(LONG, 2**32 - 1, 8))
    ),
    "2^40 tiles": lambda p: write(p, tiled(300, 300, t324=(LONG8, 2**40, 8)), big=True),
    "2^32 - 1 bits a sample": lambda p: write(p, tiled(300, 300, t258=(SHORT, 2**32 - 1, 8))),
    "65,535 samples": lambda p: write(p, tiled(300, 300, t277=(SHORT, (65_535,)))),
    "a description of 4 GB": lambda p: write(p, tiled(300, 300, t270=(2, 2**32 - 1, 8))),
    "a description of 2^62 bytes": lambda p: write(
        p, tiled(300, 300, t270=(2, 2**62, 8)), big=True
    ),
    "tiles of 4 GB": lambda p: write(p, tiled(300, 300, t325=(LONG, (2**32 - 1,) * 4))),
    "tiles of 4 GB that OpenSlide reads whole": lambda p: write(
        p, tiled(300, 300, t259=(SHORT, (33003,)), t270=(2, APERIO), t325=(LONG, (2**32 - 1,) * 4))
    ),
    "tiles of 2^62 bytes": lambda p: write(
        p, tiled(300, 300, t325=(LONG8, (2**62,) * 4)), big=True
    ),
    "tiles behind the file": lambda p: write(p, tiled(300, 300, t324=(LONG, (2**32 - 2,) * 4))),
    "a next directory behind the file": lambda p: write(p, tiled(300, 300), then=2**31),
    "a header alone": lambda p: p.write_bytes(b"II*\0\x08\0\0\0") and p,
    "magic alone": lambda p: p.write_bytes(b"II*\0") and p,
    "BigTIFF magic alone": lambda p: p.write_bytes(b"II+\0\x08\0\0\0") and p,
    "a level larger than the first": lambda p: write(
        p, tiled(300, 300), tiled(600, 600, t254=(LONG, (1,)))
    ),
    "nothing": lambda p: p.write_bytes(b"") or p,
}


@pytest.mark.parametrize("name", MADE)
def test_an_impossible_file_ends_in_a_documented_error(tmp_path: Path, name: str) -> None:
    path = MADE[name](tmp_path / "bad.tif")
    found = ends(path)
    assert found.split(":")[0] in {
        "SlideOpenError",
        "SlideReadError",
        "MppImplausibleError",
        "MppMissingError",
    }
    assert len(found) < 1000


def test_the_same_files_with_possible_values_are_read(tmp_path: Path) -> None:
    small = tiled(300, 300, (64, 64), stream=NOISE)
    assert ends(write(tmp_path / "a.tif", small)) == "done"
    assert ends(write(tmp_path / "b.tif", small, big=True)) == "done"
    assert (
        ends(
            write(
                tmp_path / "c.tif",
                small,
                tiled(150, 150, (64, 64), stream=NOISE, t254=(LONG, (1,))),
            )
        )
        == "done"
    )


def test_too_many_directories_are_an_error_before_a_library_follows_them(
    tmp_path,
) -> None:
    path = tmp_path / "million.tif"
    data = bytearray(b"II*\0\x08\0\0\0")
    for k in range(1_000_000):  # each has one entry and points to the next
        data += b"\x01\0\xfe\0\x04\0\x01\0\0\0\0\0\0\0" + (8 + 18 * (k + 1)).to_bytes(4, "little")
    path.write_bytes(data)
    assert "more than 4096 directories" in ends(path)


def test_a_slide_larger_than_any_glass_is_implausible(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiled(2**18, 2**18, (4096, 4096), stream=NOISE))
    assert ends(path).startswith(
        "MppImplausibleError: slide a: 262144 x 262144 px of 0.25 um (tiff tags) would be 4295 mm2"
    )


def jpeg_of(claim: int) -> bytes:
    """Encode a JPEG of 64 x 64 pixels that claims longer sides."""
    data = bytearray(imagecodecs.jpeg8_encode(np.frombuffer(NOISE, np.uint8).reshape(64, 64, 3)))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = claim.to_bytes(2, "big") * 2
    return bytes(data)


def png_of(claim: int) -> bytes:
    """Encode a PNG of 64 x 64 pixels that claims longer sides."""
    data = bytearray(imagecodecs.png_encode(np.frombuffer(NOISE, np.uint8).reshape(64, 64, 3)))
    data[16:24] = claim.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def jpeg2000_of(claim: int) -> bytes:
    """Encode a JPEG 2000 codestream of 64 x 64 pixels that claims longer sides."""
    pixels = np.frombuffer(NOISE, np.uint8).reshape(64, 64, 3)
    data = bytearray(imagecodecs.jpeg2k_encode(pixels, level=20, codecformat="j2k"))
    side = claim.to_bytes(4, "big") * 2
    data[8:16], data[24:32] = side, side  # the image and its one tile
    return bytes(data)


ZEROS = bytes(2**28 + 2**26)
STREAMS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "jpeg": (7, lambda: jpeg_of(65_500)),
    "png": (34933, lambda: png_of(65_500)),
    "jpeg 2000": (34712, lambda: jpeg2000_of(65_500)),
    "aperio's jpeg 2000": (33005, lambda: jpeg2000_of(65_500)),
    "deflate": (8, lambda: zlib.compress(ZEROS)),
    "lzw": (5, lambda: bytes(imagecodecs.lzw_encode(ZEROS[: 2**26]))),
    "zstd": (50000, lambda: bytes(imagecodecs.zstd_encode(ZEROS))),
    "lzma": (34925, lambda: lzma.compress(ZEROS, preset=0)),
}


@pytest.mark.parametrize("strips", [False, True], ids=["tiles", "strips"])
@pytest.mark.parametrize("codec", STREAMS)
def test_a_stream_that_is_larger_than_its_tile_is_not_unpacked(
    tmp_path: Path, codec: str, strips: bool
) -> None:
    code, stream = STREAMS[codec]
    image = tiled(256, 256, stream=stream(), t259=(SHORT, (code,)))
    found = ends(write(tmp_path / "bomb.tif", striped(image) if strips else image))
    assert found == "done" or found.split(":")[0] in {"SlideOpenError", "SlideReadError"}


@pytest.mark.parametrize(("suffix", "make"), [(".png", png_of), (".jpg", jpeg_of)])
def test_an_image_that_claims_too_many_pixels_is_an_error(
    tmp_path: Path, suffix: str, make: Any
) -> None:
    path = tmp_path / f"a_MPP-0.25{suffix}"
    path.write_bytes(make(65_500))
    assert "has 65500 x 65500 pixels, more than can be decoded at once" in ends(path)


def test_huge_text_and_colour_profiles_are_not_unpacked(tmp_path: Path) -> None:
    packed = zlib.compress(ZEROS)
    for kind, data in {
        b"zTXt": b"a\0\0" + packed,
        b"iCCP": b"a\0\0" + packed,
        b"iTXt": b"a\0\1\0\0\0" + packed,
    }.items():
        chunk = (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )
        png = png_of(64)
        path = tmp_path / "a_MPP-0.25.png"
        path.write_bytes(png[:33] + chunk + png[33:])
        assert ends(path).split(":")[0] in {"done", "SlideOpenError", "SlideReadError"}


def dicom(body: bytes, syntax: bytes) -> bytes:
    """Assemble a DICOM file: preamble, file meta information and body."""
    syntax += b"\0" * (len(syntax) % 2)
    meta = b"\x02\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax
    length = b"\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little")
    return bytes(128) + b"DICM" + length + meta + body


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


NESTED = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 100_000
DICOM = {
    "deflated zeros": lambda: dicom(deflated(ZEROS), b"1.2.840.10008.1.2.1.99"),
    "an element of 4 GB": lambda: dicom(
        b"\x20\0\x0e\0UN\0\0\xfe\xff\xff\xff", b"1.2.840.10008.1.2.1"
    ),
    "sequences in sequences": lambda: dicom(NESTED, b"1.2.840.10008.1.2.1"),
    "rows that are text": lambda: dicom(
        b"\x20\0\x0e\0UI\x04\x001.2\0\x48\0\x06\0LO\x04\0many", b"1.2.840.10008.1.2.1"
    ),
    "nothing behind the magic word": lambda: bytes(128) + b"DICM",
}


@pytest.mark.parametrize("name", DICOM)
def test_a_harmful_dicom_file_is_found_and_ends_in_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.dcm"
    path.write_bytes(DICOM[name]())
    assert within_limits(ids, tmp_path) == ["bad"]
    assert ends(path).split(":")[0] in {"SlideOpenError", "SlideReadError"}


def test_a_pipe_is_no_slide(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.svs")
    assert "is a pipe or a device, not a file" in ends(tmp_path / "a.svs")
    (tmp_path / "b.dcm").symlink_to("a.svs")
    found = within_limits(ids, tmp_path)
    assert isinstance(found, UsageError)
    assert "is left out: it is a pipe" in str(found)
