"""How large a pixel is: the five sources, their order, the gate, and the rationals in TIFF tags."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from noctile.pipeline.errors import MppImplausibleError, MppMissingError
from noctile.pipeline.slides.pixel_size import MppCandidates, resolve_mpp
from noctile.pipeline.slides.tiff.tags import mpp_from_resolution, read_tags

INCH, CENTIMETER, NO_UNIT = 2, 3, 1


@pytest.mark.parametrize(
    ("said", "resolved"),
    [
        (
            MppCandidates(user=(0.3, 0.31), metadata=(0.5, 0.5), objective_power=40),
            (0.3, 0.31, "user"),
        ),
        (
            MppCandidates(metadata=(0.5, 0.51), tags=(0.25, 0.25), objective_power=40),
            (0.5, 0.51, "metadata"),
        ),
        (MppCandidates(metadata=(0.25, 0.25), tags=(0.25, 0.25)), (0.25, 0.25, "tiff tags")),
        (MppCandidates(metadata=(0.5, 0.51), file_name=0.25), (0.5, 0.51, "metadata")),
        (
            MppCandidates(file_name=0.25, metadata=(352.8, 352.8), tags=(352.8, 352.8)),
            (0.25, 0.25, "file name"),
        ),
        (MppCandidates(tags=(0.25, 0.26), objective_power=20), (0.25, 0.26, "tiff tags")),
        (MppCandidates(objective_power=20), (0.5, 0.5, "objective power")),
    ],
)
def test_the_first_source_that_says_something_decides(
    said: MppCandidates, resolved: tuple[float, float, str]
) -> None:
    assert resolve_mpp("a", said) == resolved


def test_without_any_source_the_message_says_what_to_pass() -> None:
    with pytest.raises(
        MppMissingError,
        match=r"slide a: .* no _MPP-.* no TIFF resolution.* --mpp 0\.25.*column mpp",
    ):
        resolve_mpp("a", MppCandidates())


@pytest.mark.parametrize(
    ("said", "who"),
    [
        (MppCandidates(user=(25.0, 25.0)), "25 um according to the call"),
        (MppCandidates(metadata=(28.968, 28.969)), "28.97 um according to the file's metadata"),
        (
            MppCandidates(metadata=(0.25, 0.0025)),
            "0.25 um high and 0.0025 um wide according to the file's metadata",
        ),
        (
            MppCandidates(tags=(352.8, 352.8), tags_text="TIFF tags X 72/1"),
            "352.8 um according to the TIFF tags X 72/1",
        ),
        (MppCandidates(file_name=25.0), "25 um according to the file's name"),
        (MppCandidates(objective_power=1.25), "8 um according to the objective power of 1.25"),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_source(said: MppCandidates, who: str) -> None:
    with pytest.raises(MppImplausibleError) as refused:
        resolve_mpp("a", said)
    assert who in str(refused.value)
    assert "--mpp 0.25" in str(refused.value)


@pytest.mark.parametrize("mpp", [0.1, 0.12, 0.234, 0.2527, 0.499, 1.0, 1.5])
def test_the_pixel_sizes_of_real_scanners_pass(mpp: float) -> None:
    assert resolve_mpp("a", MppCandidates(metadata=(mpp, mpp))) == (mpp, mpp, "metadata")


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
