"""Tumor candidates by stain: deconvolution, evidence, and quality on real regions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.stain_candidates import (
    MARGIN_UM,
    MIN_AREA_UM2,
    SQUARE_PX,
    STAINS,
    Candidates,
    average_squares,
    evidence,
    find_candidates,
    haematoxylin,
)

FRAME = Frame(Extent(200, 240), 1.0, 1.0)
ROUGH = Frame(Extent(50, 60), 4.0, 4.0)


def stained(h: np.ndarray, e: np.ndarray) -> np.ndarray:
    """RGB of glass under given densities of haematoxylin and eosin, as Beer and Lambert say."""
    density = h[..., None] * np.array(STAINS[0]) + e[..., None] * np.array(STAINS[1])
    return np.round(244 * 10**-density - 1).astype(np.uint8)


def nuclei(shape: tuple[int, int], spacing_px: int, radius_px: float) -> np.ndarray:
    """Discs of haematoxylin on a grid; the spacing sets how dense they are."""
    y, x = np.indices(shape)
    distance = np.hypot(y % spacing_px - spacing_px // 2, x % spacing_px - spacing_px // 2)
    return np.where(distance <= radius_px, 0.8, 0.1)


def test_deconvolution_gives_back_the_haematoxylin_that_was_put_in() -> None:
    h, e = np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 0.8, 17))
    assert (
        np.abs(haematoxylin(stained(h, e)) - h).max() < 0.05
    )  # 8 bits of a dark pixel are a coarse scale


def test_glass_and_brighter_pixels_have_no_haematoxylin() -> None:
    assert not haematoxylin(np.array([[[243, 243, 243], [255, 255, 255]]], np.uint8)).any()


def test_wide_nuclei_are_evidence_for_tumor_and_narrow_ones_against() -> None:
    pale = np.full((120, 120), 0.3)
    wide, narrow = (stained(nuclei((120, 120), *n), pale) for n in ((14, 5), (5, 1.6)))
    assert haematoxylin(narrow).mean() == pytest.approx(
        haematoxylin(wide).mean(), rel=0.2
    )  # as dense in all
    middle = np.s_[40:80, 40:80]
    frame = Frame(Extent(120, 120), 1.0, 1.0)
    assert evidence(wide, frame)[middle].min() > 0.1
    assert evidence(narrow, frame)[middle].max() < 0


def test_evidence_does_not_depend_on_the_pixel_size() -> None:
    rgb = stained(ndimage.zoom(nuclei((120, 120), 14, 5), 2, order=0), np.full((240, 240), 0.3))
    fine = evidence(rgb, Frame(Extent(240, 240), 0.5, 0.5))[::2, ::2]
    plain = evidence(rgb[::2, ::2], Frame(Extent(120, 120), 1.0, 1.0))
    assert np.abs(fine - plain).max() < 0.06


def test_pixels_beyond_the_margin_do_not_change_evidence() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(60, 240, (200, 240, 3), dtype=np.uint8)
    margin = int(np.ceil(MARGIN_UM))
    whole = evidence(rgb, FRAME)
    part = evidence(rgb[30:170, 20:200], FRAME)
    assert np.array_equal(
        part[margin:-margin, margin:-margin], whole[30:170, 20:200][margin:-margin, margin:-margin]
    )


@pytest.mark.parametrize("shape", [(8, 12), (9, 14), (3, 5), (1, 1)])
def test_coarse_values_are_means_also_where_a_square_is_cut_short(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    found = average_squares(values)
    assert found.shape == (-(-shape[0] // SQUARE_PX), -(-shape[1] // SQUARE_PX))
    for y, x in np.ndindex(found.shape):
        square = values[y * SQUARE_PX : (y + 1) * SQUARE_PX, x * SQUARE_PX : (x + 1) * SQUARE_PX]
        assert found[y, x] == pytest.approx(square.mean(), abs=1e-6)


class TestCandidates:
    @staticmethod
    def field(*boxes: tuple[int, int, int, int], low: float = 0.0) -> np.ndarray:
        """Evidence of 0.3 in boxes (y, x, height, width), ``low`` elsewhere, on ROUGH."""
        values = np.full((50, 60), low, np.float32)
        for y, x, height, width in boxes:
            values[y : y + height, x : x + width] = 0.3
        return values

    def test_tissue_is_divided_by_its_evidence(self) -> None:
        values = self.field((10, 10, 20, 20))
        found = find_candidates(values, ROUGH, np.ones((50, 60), bool))
        assert np.array_equal(found.field > 0, values > 0.1)
        assert found.threshold is not None
        assert 0 < found.threshold < 0.3
        assert found.area_mm2 == pytest.approx(400 * 16 / 1e6)

    def test_pixels_outside_of_tissue_are_neither_counted_nor_found(self) -> None:
        tissue = np.zeros((50, 60), bool)
        tissue[:, :30] = True
        inside, both = self.field((10, 5, 20, 15)), self.field((10, 5, 20, 15), (10, 40, 20, 15))
        both[both > 0.1] += (
            np.arange(60)[None].repeat(50, 0)[both > 0.1] >= 40
        )  # brighter by 1 outside
        one, other = (find_candidates(v, ROUGH, tissue) for v in (inside, both))
        assert one.threshold == other.threshold
        assert np.array_equal(one.field > 0, inside > 0.1)
        assert np.array_equal(other.field > 0, inside > 0.1)

    def test_small_pieces_and_small_holes_are_dropped(self) -> None:
        side = int((MIN_AREA_UM2 / 16) ** 0.5)
        values = self.field((5, 5, 30, 30), (5, 45, side, side), (20, 45, side + 1, side + 1))
        values[10 : 10 + side, 10 : 10 + side] = 0
        values[20 : 21 + side, 20 : 21 + side] = 0
        found = find_candidates(values, ROUGH, np.ones((50, 60), bool)).field > 0
        assert not found[5:11, 45:51].any()
        assert found[20, 45]
        assert found[10:16, 10:16].all()
        assert not found[20, 20]

    def test_without_tissue_there_are_no_candidates(self) -> None:
        found = find_candidates(self.field((10, 10, 20, 20)), ROUGH, np.zeros((50, 60), bool))
        assert (found.area_mm2, found.threshold) == (0, None)
        assert not (found.rest > 0).any()

    def test_even_tissue_is_not_divided(self) -> None:
        assert find_candidates(self.field(), ROUGH, np.ones((50, 60), bool)).area_mm2 == 0

    def test_the_rest_is_the_other_tissue(self) -> None:
        tissue = np.ones((50, 60), bool)
        tissue[40:] = False
        found = find_candidates(self.field((10, 10, 20, 20)), ROUGH, tissue)
        assert np.array_equal(found.rest > 0, tissue & ~(found.field > 0))
        assert np.array_equal(np.abs(found.rest), np.abs(found.field))

    def test_finer_pixels_interpolate_the_outline(self) -> None:
        y, x = np.indices((50, 60))
        disc = (15 - np.hypot(y - 24.5, x - 29.5)).astype(np.float32)
        found = Candidates(disc, ROUGH, np.ones((50, 60), bool), 0.0)
        fine = Frame(Extent(800, 960), 0.25, 0.25)
        y, x = np.indices((800, 960))
        exact = np.hypot((y + 0.5) / 16 - 25, (x + 0.5) / 16 - 30) < 15
        got = found.on(fine.box, fine)
        assert np.count_nonzero(got != exact) / np.count_nonzero(exact) < 0.01
        box = Box(100, 130, 300, 310)
        assert np.array_equal(found.on(box, fine), got[box.slices()])


@pytest.mark.parametrize(
    ("name", "dice", "precision", "recall"),
    [("1008", 0.80, 0.81, 0.79), ("1015", 0.71, 0.62, 0.84)],
)
def test_the_dice_on_real_regions_is_as_documented(
    shared_data: Path, name: str, dice: float, precision: float, recall: float
) -> None:
    image = Image.open(shared_data / "bcss" / "images" / f"{name}.jpg").reduce(4)
    truth = (
        np.asarray(
            Image.open(shared_data / "bcss" / "masks" / f"{name}.jpg").convert("L").reduce(4)
        )
        > 127
    )
    frame = Frame(Extent(*truth.shape), 1.0, 1.0)
    rough = frame.coarser(SQUARE_PX)
    values = average_squares(evidence(np.asarray(image), frame))
    found = find_candidates(values, rough, np.ones(values.shape, bool)).on(frame.box, frame)
    both = np.count_nonzero(found & truth)
    assert 2 * both / (found.sum() + truth.sum()) == pytest.approx(dice, abs=0.015)
    assert both / found.sum() == pytest.approx(precision, abs=0.02)
    assert both / truth.sum() == pytest.approx(recall, abs=0.02)
