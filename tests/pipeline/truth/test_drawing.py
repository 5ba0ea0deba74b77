"""Layers, points and given up areas in drawn codes; test_geojson.py has areas of one layer."""

from dataclasses import replace

import numpy as np
import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.truth.drawing import code_without, draw_codes
from noctile.pipeline.truth.geojson import Annotation
from noctile.pipeline.truth.points import disc
from noctile.pipeline.truth.scheme import BUILT_IN, OUTSIDE

FRAME = Frame(Extent(60, 80), 0.5, 0.5)
BCSS5, BCSS21, TUMOR = (BUILT_IN[name] for name in ("bcss5", "bcss21", "tumor"))


def square(label: str | None, y: float, x: float, side: float) -> Annotation:
    return Annotation(
        label, ((np.array([[y, x], [y, x + side], [y + side, x + side], [y + side, x]]),),)
    )


def point(label: str, y: float, x: float) -> Annotation:
    return Annotation(label, (), point=(y, x))


def drawn(*annotations: Annotation) -> np.ndarray:
    return draw_codes(annotations, BCSS5, FRAME, FRAME, FRAME.box, "a")


def test_a_higher_layer_lies_on_top_whatever_its_size() -> None:
    small, large = square("Stroma", 10, 10, 4), square("Tumor", 5, 5, 20)
    assert drawn(large, small)[12, 12] == 2
    assert drawn(replace(large, layer=1), small)[12, 12] == 1


def test_a_point_labels_a_disc_over_areas_and_inside_frames() -> None:
    area, mark = square("Stroma", 0, 0, 40), point("Tumor", 20, 30)
    expected = np.zeros((60, 80), np.uint8)
    expected[:40, :40] = 2
    expected[disc((20, 30), 0.5, (60, 80))] = 1
    assert np.array_equal(drawn(mark, area), expected)
    framed = drawn(mark, area, square(None, 0, 0, 30))
    expected[30:], expected[:, 30:] = 0, 0
    assert np.array_equal(framed, expected)


def test_a_point_keeps_its_place_at_other_pixel_sizes_and_in_parts() -> None:
    coarse = FRAME.at(1.0)
    box = coarse.box
    codes = draw_codes([point("Tumor", 30, 41)], BCSS5, FRAME, coarse, box, "a")
    expected = np.zeros(codes.shape, np.uint8)
    expected[disc((15, 20.5), 1.0, codes.shape)] = 1
    assert np.array_equal(codes, expected)


@pytest.mark.parametrize(
    ("scheme", "code", "expected"),
    [
        (TUMOR, 1, 21),
        (TUMOR, 19, 21),
        (TUMOR, 2, OUTSIDE),
        (TUMOR, 15, OUTSIDE),
        (BCSS5, 1, OUTSIDE),
    ],
)
def test_an_area_without_its_class_is_the_only_other_tissue(
    scheme: object, code: int, expected: int
) -> None:
    assert code_without(code, scheme) == expected  # type: ignore[arg-type]


def test_an_unknown_class_of_a_point_is_named() -> None:
    with pytest.raises(UsageError, match="class 'Nerd' is not known"):
        drawn(point("Nerd", 1, 1))
