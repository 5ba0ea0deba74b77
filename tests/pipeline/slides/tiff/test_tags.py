"""Tags of TIFF files: codec, and resolution as rational numbers with a unit."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from noctile.pipeline.slides.tiff.tags import mpp_from_resolution, read_tags

INCH, CENTIMETER, NO_UNIT = 2, 3, 1


@pytest.mark.parametrize(
    ("y", "x", "unit", "mpp"),
    [
        ((40_000, 1), (40_000, 1), CENTIMETER, (0.25, 0.25)),
        (
            (400_000, 10),
            (80_000, 4),
            CENTIMETER,
            (0.25, 0.5),
        ),  # the numerator alone would be ten times off
        ((101_600, 1), (50_800, 1), INCH, (0.25, 0.5)),
        ((1, 25), (1, 25), CENTIMETER, (250_000.0, 250_000.0)),
        ((72, 1), (72, 1), NO_UNIT, None),
        ((0, 1000), (0, 1000), CENTIMETER, None),
        ((40_000, 0), (40_000, 1), CENTIMETER, None),
        ((40_000, 1), (40_000, 1), 5, None),
    ],
)
def test_resolution_tags_are_rationals_with_a_unit(y, x, unit, mpp) -> None:
    assert mpp_from_resolution(y, x, unit) == (pytest.approx(mpp) if mpp else None)


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        (None, "none"),
        ("jpeg", "jpeg"),
        ("lzw", "lzw"),
        ("deflate", "deflate"),
        ("jpeg2000", "jpeg2000"),
    ],
)
def test_the_codec_of_a_tiff_has_its_plain_name(
    tmp_path: Path, compression: str | None, name: str
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), compression=compression, tile=(64, 64))
    assert read_tags(path).compression == name


def test_tags_are_those_of_the_largest_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.zeros((16, 16, 3), np.uint8), resolution=(72, 72), resolutionunit="INCH")
        tiff.write(
            np.zeros((64, 80, 3), np.uint8),
            resolution=(20_000, 40_000),
            resolutionunit="CENTIMETER",
            compression="lzw",
        )
    tags = read_tags(path)
    assert tags.mpp == (0.25, 0.5)
    assert tags.compression == "lzw"
    assert (
        tags.resolution_text
        == "TIFF tags XResolution 20000/1, YResolution 40000/1, ResolutionUnit centimeter"
    )


def test_a_tiff_that_tifffile_cannot_parse_has_unknown_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + bytes(20))
    assert read_tags(path).compression == "unknown"
    assert read_tags(path).mpp is None
