"""Pictures that mark tissue, of several formats and modes."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from noctile.pipeline.errors import TissueMaskError
from noctile.pipeline.roi import mask_image as module
from noctile.pipeline.roi.mask_image import read_mask_image

MASK = np.zeros((40, 56), bool)
MASK[8:32, 16:40] = True


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "1"),
        ("a.png", "L"),
        ("a.png", "P"),
        ("a.png", "RGB"),
        ("a.tif", "L"),
        ("a.tif", "I;16"),
        ("a.jpg", "L"),
        ("a.jpg", "RGB"),
    ],
)
def test_pixels_that_are_not_0_are_tissue(tmp_path, name, mode):
    level = 255 if name.endswith("jpg") or mode == "1" else 1
    values = MASK.astype(np.uint16 if mode == "I;16" else np.uint8) * level
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([9, 9, 9, 7, 7, 7])
    elif mode != image.mode:
        image = image.convert(mode)
    image.save(tmp_path / name)
    assert np.array_equal(read_mask_image(tmp_path / name), MASK)


def test_transparent_pixels_are_no_tissue(tmp_path):
    pixels = np.full((40, 56, 4), 200, np.uint8)
    pixels[..., 3] = MASK * 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_mask_image(tmp_path / "a.png"), MASK)


@pytest.mark.parametrize("big", [False, True])
def test_the_finest_level_that_fits_is_read(tmp_path, monkeypatch, big):
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as tiff:
        for factor in (4, 2, 1):
            level = MASK.repeat(factor, 0).repeat(factor, 1).astype(np.uint8)
            tiff.write(level, tile=(32, 32), compression="zlib", subfiletype=int(factor < 4))
    assert read_mask_image(tmp_path / "a.tif").shape == (160, 224)
    monkeypatch.setattr(module, "MAX_PIXELS", MASK.size * 5)
    assert np.array_equal(read_mask_image(tmp_path / "a.tif")[::2, ::2], MASK)
    monkeypatch.setattr(module, "MAX_PIXELS", 100)
    with pytest.raises(TissueMaskError, match=r"more than 100 px; .* coarser"):
        read_mask_image(tmp_path / "a.tif")


def test_a_picture_that_claims_to_be_huge_is_not_decoded(tmp_path):
    Image.new("1", (20_000, 4_000)).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 200_000
    with pytest.raises(TissueMaskError, match="4000 x 20000 px"):
        read_mask_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff\xe0"]
)
def test_broken_files_are_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(TissueMaskError, match=r"a\.png cannot be read"):
        read_mask_image(tmp_path / "a.png")


def test_files_cut_short_are_named(tmp_path):
    for name in ("a.png", "a.jpg", "a.tif"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(
            tmp_path / name
        )
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(TissueMaskError, match=name):
            read_mask_image(tmp_path / name)


def test_folders_and_pipes_are_no_pictures(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(TissueMaskError, match="cannot be read"):
            read_mask_image(path)
