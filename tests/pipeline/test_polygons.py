"""Outlines of a field are closed and in place, and holes belong to their piece."""

import numpy as np
import pytest

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.polygons import outlines

FIELD = Frame(Extent(40, 60), 4.0, 4.0)
SLIDE = Frame(
    Extent(637, 960), 0.25, 0.25
)  # 16 px of the slide in one of the field; the last row is cut short


def trace(mask: np.ndarray, frame: Frame = FIELD, to: Frame = SLIDE) -> list[list[np.ndarray]]:
    return list(outlines(np.where(mask, 1, -1).astype(np.float32), frame, to))


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:])) / 2


def box(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    for y, x, height, width in boxes:
        mask[y : y + height, x : x + width] ^= True
    return mask


def test_a_box_is_outlined_along_its_pixels_edges() -> None:
    ((ring,),) = trace(box((10, 20, 5, 8)))
    assert (ring.min(axis=0) == [320, 160]).all()  # x, y of the first pixel's corner
    assert (ring.max(axis=0) == [448, 240]).all()
    assert np.array_equal(ring[0], ring[-1])
    assert area(ring) == pytest.approx(128 * 80 - 4 * 8 * 8 / 2)  # corners are cut half a pixel


def test_a_hole_belongs_to_the_piece_around_it_and_an_island_in_it_is_a_piece_of_its_own() -> None:
    polygons = trace(box((5, 5, 30, 30), (10, 10, 20, 20), (15, 15, 10, 10), (5, 45, 4, 4)))
    assert sorted(len(rings) for rings in polygons) == [1, 1, 2]
    (outer, hole) = next(rings for rings in polygons if len(rings) == 2)
    assert area(outer) == pytest.approx((30 * 16) ** 2, rel=0.01)
    assert area(hole) == pytest.approx((20 * 16) ** 2, rel=0.01)


def test_pieces_that_touch_at_a_corner_are_two() -> None:
    assert [len(rings) for rings in trace(box((5, 5, 6, 6), (11, 11, 6, 6)))] == [1, 1]


def test_a_piece_ends_at_the_slides_edge() -> None:
    ((ring,),) = trace(np.ones((40, 60), bool))
    assert (ring.min(axis=0) == 0).all()
    assert (ring.max(axis=0) == [960, 637]).all()


def test_pixels_need_not_be_square() -> None:
    ((ring,),) = trace(box((10, 20, 5, 8)), to=Frame(Extent(320, 960), 0.5, 0.25))
    assert (ring.min(axis=0) == [320, 80]).all()
    assert (ring.max(axis=0) == [448, 120]).all()


def test_between_pixels_the_zero_line_is_followed() -> None:
    y, x = np.indices((40, 60))
    disc = (12 - np.hypot(y - 19.5, x - 29.5)).astype(np.float32)
    ((ring,),) = outlines(disc, FIELD, SLIDE)
    radius = np.hypot(*(ring - [480, 320]).T)
    assert np.abs(radius - 12 * 16).max() < 2
    assert area(ring) == pytest.approx(np.pi * (12 * 16) ** 2, rel=0.01)


def test_the_areas_of_many_pieces_add_up() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((40, 60)) < 0.6
    polygons = trace(mask)
    total = sum(area(rings[0]) - sum(map(area, rings[1:])) for rings in polygons)
    assert total == pytest.approx(mask.sum() * 256, rel=0.25)  # each corner is cut
    assert all(
        np.array_equal(ring[0], ring[-1]) and len(ring) >= 4 for rings in polygons for ring in rings
    )
    assert list(outlines(np.full((40, 60), -1, np.float32), FIELD, SLIDE)) == []
