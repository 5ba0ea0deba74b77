"""Bounds, properties and pixels of reader libraries."""

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.source import (
    SourceInfo,
    bounds_from,
    decode_error,
    on_white,
    positive_number,
)


@pytest.mark.parametrize(
    ("bounds", "scanned"),
    [
        (Box(50, 60, 500, 500), Box(50, 60, 150, 140)),
        (Box(900, 900, 10, 10), Box(0, 0, 200, 200)),
        (None, Box(0, 0, 200, 200)),
    ],
)
def test_bounds_are_cut_to_the_file(bounds: Box | None, scanned: Box) -> None:
    info = SourceInfo("a", "a", (Extent(200, 200),), None, None, bounds, None)
    assert info.scanned == scanned


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("0.25", 0.25),
        (20, 20.0),
        *((value, None) for value in ("0", "-1", "nan", "inf", "a quarter", None)),
    ],
)
def test_a_property_is_a_number_only_if_positive_and_finite(
    value: object, number: float | None
) -> None:
    assert positive_number(value) == number


def test_bounds_need_all_four_whole_numbers() -> None:
    properties = {f"lib.bounds-{name}": str(k) for k, name in enumerate(("y", "x", "height"), 3)}
    assert bounds_from(properties, "lib") is None
    assert bounds_from(properties | {"lib.bounds-width": "6.5"}, "lib") is None
    assert bounds_from(properties | {"lib.bounds-width": "6"}, "lib") == Box(3, 4, 5, 6)
    assert bounds_from(properties | {"lib.bounds-width": "6"}, "other") is None


def test_transparent_pixels_are_blended_with_white() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, :, 3] = 255
    pixels[1, 1, 3] = 51
    shown = on_white(Image.fromarray(pixels))
    assert shown[..., 0].tolist() == [[0, 0], [255, 204]]
    assert (shown == shown[..., :1]).all()


def test_a_decode_error_names_the_slide_the_level_and_the_region() -> None:
    error = decode_error("case 7", 2, Box(10, 20, 30, 40), ValueError("bad marker"))
    assert str(error).startswith(
        "slide case 7: level 2, rows 10 to 40, columns 20 to 60 cannot be decoded: bad marker. "
    )
    assert "decoded: MemoryError." in str(decode_error("a", 0, Box(0, 0, 1, 1), MemoryError()))
