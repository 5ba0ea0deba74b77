"""Border zone and tumor bed, against geometry and against a search for nearest neighbours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import cKDTree

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.spatial.zones import BORDER_UM, within, zone_tiles

PIXELS = [(8.0, 8.0), (8.0, 10.0)]


def zones(tumor: np.ndarray, frame: Frame, tile_px: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Border zone and tumor bed of a whole map."""
    border, bed = np.zeros_like(tumor), np.zeros_like(tumor)
    for tile in zone_tiles(tumor, frame, tile_px):
        border[tile.box.slices()], bed[tile.box.slices()] = tile.border, tile.bed
    return border, bed


def distances_um(mpp: tuple[float, float], mm: float = 4.0) -> tuple[Frame, np.ndarray]:
    """Frame of a square map, and the distance of each pixel from its centre (um)."""
    extent = Extent(*(round(mm * 1000 / side) for side in mpp))
    ys, xs = (np.arange(n) - n // 2 for n in (extent.height, extent.width))
    return Frame(extent, *mpp), np.hypot(ys[:, None] * mpp[0], xs * mpp[1])


def mm2(mask: np.ndarray, frame: Frame) -> float:
    return int(mask.sum()) * frame.pixel_area_mm2


@pytest.mark.parametrize("mpp", PIXELS)
def test_a_disc_has_a_border_zone_500_um_wide_and_is_its_own_bed(mpp):
    frame, distances = distances_um(mpp)
    disc = distances <= 700
    border, bed = zones(disc, frame)
    assert mm2(border, frame) == pytest.approx(math.pi * 1.2**2, rel=0.005)
    assert mm2(bed, frame) == pytest.approx(math.pi * 0.7**2, rel=0.005)
    assert (bed >= disc).all()


@pytest.mark.parametrize("mpp", PIXELS)
@pytest.mark.parametrize(("hole_um", "is_filled"), [(480, True), (800, False)])
def test_a_ring_has_its_hole_in_the_bed_if_no_disc_of_500_um_fits_into_it(mpp, hole_um, is_filled):
    frame, distances = distances_um(mpp)
    border, bed = zones((distances > hole_um) & (distances <= 1000), frame)
    inner = 0 if is_filled else hole_um / 1000
    assert mm2(bed, frame) == pytest.approx(math.pi * (1 - inner**2), rel=0.01)
    free = max(0, hole_um / 1000 - 0.5)
    assert mm2(border, frame) == pytest.approx(math.pi * (1.5**2 - free**2), rel=0.005)


@pytest.mark.parametrize(("gap_px", "is_bridged"), [(124, True), (126, False)])
def test_half_planes_less_than_1_mm_apart_are_one_bed(gap_px, is_bridged):
    """At 8 um, 500 um are 62.5 px: a gap of 126 px has pixels further away, one of 124 has none."""
    frame = Frame(Extent(300, 600), 8.0, 8.0)
    tumor = np.zeros((300, 600), np.bool_)
    tumor[:, :200] = tumor[:, 200 + gap_px :] = True
    border, bed = zones(tumor, frame)
    assert bed[150].all() == border[150].all() == is_bridged
    if not is_bridged:
        assert (bed[150] == tumor[150]).all()


def test_the_edge_of_the_map_takes_nothing_from_the_bed():
    """A half plane reaches to three edges, and its bed does."""
    frame = Frame(Extent(200, 300), 8.0, 10.0)
    tumor = np.zeros((200, 300), np.bool_)
    tumor[:, :100] = True
    border, bed = zones(tumor, frame)
    assert (bed == tumor).all()
    assert border.sum() == 200 * (100 + 50)


@pytest.mark.parametrize("value", [True, False])
def test_a_map_of_tumor_is_its_own_bed_and_one_without_has_none(value):
    frame = Frame(Extent(90, 70), 8.0, 8.0)
    tumor = np.full((90, 70), value)
    assert all((zone == value).all() for zone in zones(tumor, frame))


def by_neighbours(mask: np.ndarray, frame: Frame) -> np.ndarray:
    """Pixels within `BORDER_UM` of a mask, by a search for the nearest pixel of the mask."""
    sides = (frame.mpp_y, frame.mpp_x)
    everywhere = np.indices(mask.shape).reshape(2, -1).T * sides
    nearest, _ = cKDTree(np.argwhere(mask) * sides).query(everywhere)
    return (nearest <= BORDER_UM + 1e-6).reshape(mask.shape)


masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.bool_, shape, elements=st.integers(0, 19).map(lambda n: n == 0))
)


@settings(max_examples=25, deadline=None)
@given(masks, st.sampled_from([50.0, 60.0, 100.0, 130.0]), st.sampled_from([50.0, 75.0, 100.0]))
def test_within_finds_the_pixels_that_a_search_for_neighbours_finds(mask, mpp_y, mpp_x):
    frame = Frame(Extent(*mask.shape), mpp_y, mpp_x)
    expected = by_neighbours(mask, frame) if mask.any() else np.zeros_like(mask)
    assert (within(mask, BORDER_UM, frame) == expected).all()


@settings(max_examples=25, deadline=None)
@given(masks, st.sampled_from([50.0, 60.0, 100.0, 130.0]), st.integers(1, 50))
def test_zones_by_tiles_equal_the_zones_of_the_whole_map(tumor, mpp_y, tile_px):
    frame = Frame(Extent(*tumor.shape), mpp_y, 100.0)
    tiled, whole = zones(tumor, frame, tile_px), zones(tumor, frame, 64)
    assert all((a == b).all() for a, b in zip(tiled, whole, strict=True))
    if tumor.any():
        room = [(22, 22), (22, 22)]
        padded = np.pad(tumor, room)
        wide = Frame(Extent(*padded.shape), mpp_y, 100.0)
        near = by_neighbours(padded, wide)
        closed = ~by_neighbours(~near, wide)
        assert (whole[0] == near[22:-22, 22:-22]).all()
        assert (whole[1] == closed[22:-22, 22:-22]).all()
