"""Plain images as slides: supported and unsupported images, and the source of the pixel size."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_slides import picture

from noctile.pipeline.errors import MppMissingError, SlideOpenError, SlideReadError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides import image as image_module
from noctile.pipeline.slides.image import mpp_from_name
from noctile.pipeline.slides.open import open_slide

BOX = Box(0, 0, 40, 60)


def save(path: Path, mode: str = "RGB", **options: object) -> Image.Image:
    """Write and return a picture of 60 x 40 pixels."""
    image = Image.fromarray(picture(40, 60)).convert(mode)
    image.save(path, **options)
    return image


def shown(path: Path) -> np.ndarray:
    return open_slide(path, mpp=0.25).read(BOX, 0.25)


def test_an_image_is_a_slide_of_one_level(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    info = open_slide(tmp_path / "a.png", mpp=0.3).info
    assert (info.slide_id, info.reader, info.vendor, info.compression) == (
        "a",
        "pillow",
        "png",
        "deflate",
    )
    assert (info.frame.extent.height, info.frame.extent.width, info.frame.mpp) == (
        40,
        60,
        pytest.approx(0.3),
    )
    assert info.levels == (info.frame,)
    assert info.mpp_source == "user"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_greys_and_palettes_show_as_colours(tmp_path: Path, mode: str) -> None:
    image = save(tmp_path / "a.png", mode)
    assert np.array_equal(shown(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits_are_scaled_to_255(bits: int, tmp_path: Path) -> None:
    grey = picture(40, 60)[..., 0] >> (8 - bits)
    grey[0, :2] = 0, 2**bits - 1
    path = tmp_path / "a.png"
    write_grey_png(path, grey, bits)
    assert np.array_equal(shown(path)[..., 0], grey * (255 // (2**bits - 1)))


def write_grey_png(path: Path, grey: np.ndarray, bits: int) -> None:
    """Write a PNG with samples of 1, 2 or 4 bits. (PNG specification, section 11)"""
    planes = np.unpackbits(grey[..., None], axis=2)[..., 8 - bits :]
    rows = np.packbits(planes.reshape(len(grey), -1), axis=1)
    header = struct.pack(">2I5B", grey.shape[1], grey.shape[0], bits, 0, 0, 0, 0)
    data = zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes())
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture(40, 60)).convert(mode)
    image.putalpha(
        Image.fromarray(
            np.where(np.arange(60) < 30, 0, 255).astype(np.uint8)[None].repeat(40, axis=0)
        )
    )
    image.save(tmp_path / "a.png")
    pixels = shown(tmp_path / "a.png")
    assert (pixels[:, :30] == 255).all()
    assert np.array_equal(pixels[:, 30:], np.asarray(image.convert("RGB"))[:, 30:])


def test_a_transparent_entry_of_a_palette_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(picture(40, 60)).convert("P")
    clear = np.asarray(image) == np.asarray(image)[0, 0]
    image.save(tmp_path / "a.png", transparency=int(np.asarray(image)[0, 0]))
    pixels = shown(tmp_path / "a.png")
    assert (pixels[clear] == 255).all()
    assert np.array_equal(pixels[~clear], np.asarray(image.convert("RGB"))[~clear])


@pytest.mark.parametrize(
    ("name", "mode", "found"), [("a.png", "I;16", "I;16"), ("a.jpg", "CMYK", "CMYK")]
)
def test_other_modes_are_errors_that_name_them(
    tmp_path: Path, name: str, mode: str, found: str
) -> None:
    save(tmp_path / name, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        Image.fromarray(np.zeros((40, 60), np.uint16)).save(tmp_path / name)
    with pytest.raises(
        SlideOpenError, match=rf"a: the pixels .* mode {found}, but only 8-bit grey or RGB"
    ):
        open_slide(tmp_path / name, mpp=0.25)


def test_a_too_large_image_is_an_error_before_it_is_decoded(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path / "a.png")
    monkeypatch.setattr(image_module, "MAX_PIXELS", 40 * 60)
    open_slide(tmp_path / "a.png", mpp=0.25)
    monkeypatch.setattr(image_module, "MAX_PIXELS", 40 * 60 - 1)
    with pytest.raises(
        SlideOpenError, match=r"60 x 40 pixels, more than can be decoded at once.*tiled TIFF"
    ):
        open_slide(tmp_path / "a.png", mpp=0.25)


def test_the_limit_of_pillow_does_not_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png")
    limit = 10 * BOX.area // 11  # Image.open would warn, and warnings are errors
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    open_slide(tmp_path / "a.png", mpp=0.25)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_truncated_image_opens_and_each_read_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    reader = open_slide(path, mpp=0.25)
    for _ in range(2):
        with pytest.raises(SlideReadError, match=r"slide a: .* cannot be decoded"):
            reader.read(BOX, 0.25)


def test_a_damaged_header_is_unopenable(tmp_path: Path) -> None:
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        (tmp_path / "a.svs").write_bytes(magic + bytes(100))
        with pytest.raises(
            SlideOpenError, match=r"begins like a (PNG|JPEG) file but cannot be opened"
        ):
            open_slide(tmp_path / "a.svs")


def test_the_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    save(tmp_path / "a.jpg", exif=exif)
    assert open_slide(tmp_path / "a.jpg", mpp=0.25).info.frame.extent.width == 60


def test_the_resolution_in_dots_per_inch_is_no_pixel_size(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        save(tmp_path / name, dpi=(25_400 / 0.25, 25_400 / 0.25))
        with pytest.raises(MppMissingError, match=r"the pixel size is unknown.*_MPP-.*--mpp 0\.25"):
            open_slide(tmp_path / name)


def test_the_name_of_a_bcss_region_gives_its_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "TCGA-A2-A0CM-DX1_xmin18562_ymin56852_MPP-0.2500.png"
    save(path)
    info = open_slide(path).info
    assert (info.frame.mpp_y, info.frame.mpp_x, info.mpp_source) == (0.25, 0.25, "file name")
    assert info.slide_id == path.stem
    assert open_slide(path, mpp=0.5).info.mpp_source == "user"


@pytest.mark.parametrize(
    ("name", "mpp"),
    [
        ("a_MPP-0.2500.png", 0.25),
        ("a_MPP-0.2500_mask.png", 0.25),
        ("a_MPP-1.png", 1.0),
        ("a_mpp-0.5.jpg", 0.5),
        ("a_MPP-0.0.png", None),
        ("a_MPP-.png", None),
        ("a_MPP-0.2.5.png", None),
        ("a_0.25.png", None),
    ],
)
def test_only_a_complete_number_behind_mpp_is_a_pixel_size(name: str, mpp: float | None) -> None:
    assert mpp_from_name(name) == mpp
