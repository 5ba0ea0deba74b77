"""Spatial measures of maps whose figures follow from geometry."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import stored_labels

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.spatial.classes import has_code, tissue_kinds
from noctile.pipeline.spatial.compute import ZoneCounts, count_zones, measure_space
from noctile.pipeline.spatial.foci import focus_areas_mm2, only_foci
from noctile.pipeline.spatial.measures import FOCUS_EDGES_MM2, SpatialMeasures
from noctile.pipeline.spatial.zones import zone_tiles
from noctile.pipeline.truth.scheme import BCSS_CODES, BUILT_IN

BCSS21, BCSS5 = BUILT_IN["bcss21"].classes, BUILT_IN["bcss5"].classes
TUMOR, STROMA, INFLAMED, NECROSIS, DCIS, FAT = (
    BCSS_CODES[name]
    for name in ("tumor", "stroma", "plasma_cells", "necrosis_or_debris", "dcis", "fat")
)


def measured(folder, labels, mpp=(8.0, 8.0), classes=BCSS21) -> SpatialMeasures:
    source = stored_labels(folder / "s", labels, mpp=mpp, classes=classes)
    codes = [info.code for info in classes if info.role == "tumor"]
    areas = source.summary["class_area_mm2"]
    return measure_space(source.store, areas, focus_areas_mm2(source.store, codes))


def stripes(**widths_px: int) -> np.ndarray:
    """Vertical stripes of classes, 300 px high, at 8 um 2.4 mm."""
    return np.concatenate(
        [np.full((300, width), BCSS_CODES[name], np.uint8) for name, width in widths_px.items()], 1
    )


def test_inflammation_is_measured_within_500_um_of_the_tumor(tmp_path):
    """At 8 um, 62 columns beside the tumor lie within 500 um: 50 of stroma, 12 of lymphocytes."""
    labels = stripes(tumor=200, stroma=50, lymphocytic_infiltrate=25, fat=100)
    found = measured(tmp_path, labels)
    column_mm2 = 300 * 64e-6
    assert found.border_stroma_mm2 == pytest.approx(50 * column_mm2)
    assert found.border_inflammatory_mm2 == pytest.approx(12 * column_mm2)
    assert found.stromal_inflammation_fraction == pytest.approx(12 / 62, abs=1e-6)


def test_what_lies_outside_of_the_tumor_border_is_not_in_the_bed(tmp_path):
    found = measured(tmp_path, stripes(tumor=200, stroma=150))
    assert found.bed_mm2 == found.bed_tumor_mm2 == pytest.approx(200 * 300 * 64e-6)
    assert (found.bed_stroma_mm2, found.tumor_stroma_ratio) == (0, 0)
    assert found.tumor_stroma_class == "stroma_low"
    assert found.bed_inflammation_fraction is None
    assert found.not_measured["bed_inflammation_fraction"] == (
        "neither stroma nor inflammatory cells are in the tumor bed"
    )


def enclosed(gap: np.ndarray, width_px: int = 10) -> np.ndarray:
    """A gap of less than 1 mm with tumor all around, in fat."""
    return np.pad(np.pad(gap, width_px, constant_values=TUMOR), 80, constant_values=FAT)


@pytest.mark.parametrize(("stroma_px", "is_high"), [(38, False), (39, False), (40, True)])
def test_stroma_enclosed_by_tumor_is_in_the_bed_and_above_one_half_it_is_high(
    tmp_path, stroma_px, is_high
):
    gap = stripes(stroma=stroma_px, lymphocytic_infiltrate=20, necrosis_or_debris=9, fat=7)[:100]
    tumor_px = 120 * (stroma_px + 56) - 100 * (stroma_px + 36)
    found = measured(tmp_path, enclosed(gap))
    ratio = 100 * stroma_px / (100 * stroma_px + tumor_px)
    assert found.tumor_stroma_ratio == pytest.approx(ratio, abs=1e-6)
    assert (ratio > 0.5) == is_high
    assert found.tumor_stroma_class == ("stroma_high" if is_high else "stroma_low")
    assert found.bed_inflammation_fraction == pytest.approx(20 / (stroma_px + 20), abs=1e-6)
    assert found.bed_mm2 == pytest.approx(120 * (stroma_px + 56) * 64e-6)
    assert found.necrosis_mm2 == pytest.approx(900 * 64e-6)
    assert found.necrosis_fraction == pytest.approx(900 / (900 + tumor_px), abs=1e-6)


def test_points_that_were_not_analysed_count_nowhere(tmp_path):
    gap = stripes(stroma=50)[:100]
    gap[:40] = 0
    found = measured(tmp_path, enclosed(gap))
    assert found.bed_stroma_mm2 == found.border_stroma_mm2 == pytest.approx(50 * 60 * 64e-6)
    assert found.bed_mm2 == pytest.approx((120 * 70 - 50 * 40) * 64e-6)


def test_carcinoma_in_situ_is_neither_tumor_nor_stroma_of_the_bed(tmp_path):
    found = measured(tmp_path, stripes(dcis=100, stroma=100))
    assert found.tumor_stroma_ratio is found.stromal_inflammation_fraction is None
    assert (found.bed_mm2, found.border_stroma_mm2) == (0, 0)
    assert found.foci_area_mm2 > 0
    why = "the slide has no focus of invasive tumor"
    assert found.not_measured["tumor_stroma_class"] == why
    assert found.not_measured["worst_field_tumor_stroma_ratio"] == why
    assert found.not_measured["stromal_inflammation_fraction"] == why


def test_a_speck_of_tumor_has_no_zones(tmp_path):
    """12 x 12 px of 64 um2 are 0.0092 mm2, less than a focus."""
    labels = stripes(stroma=300)
    labels[100:112, 100:112] = TUMOR
    assert measured(tmp_path, labels).border_stroma_mm2 == 0
    labels[100:113, 100:113] = TUMOR
    assert measured(tmp_path / "larger", labels).border_stroma_mm2 > 0.5


@pytest.mark.parametrize(("mpp", "step"), [((0.45, 0.55), 16), ((1.1, 1.1), 7)])
def test_a_ring_of_lymphocytes_around_a_disc(tmp_path, mpp, step):
    """Label maps are sampled at about 8 um."""
    shape = tuple(round(2000 / side) for side in mpp)
    ys, xs = ((np.arange(n) + 0.5) * side - 1000 for n, side in zip(shape, mpp, strict=True))
    distances = np.hypot(ys[:, None], xs)
    labels = np.full(shape, FAT, np.uint8)
    labels[distances <= 800] = STROMA
    labels[distances <= 500] = INFLAMED
    labels[distances <= 400] = TUMOR
    found = measured(tmp_path, labels, mpp)
    assert found.point_um == pytest.approx((mpp[0] * step, mpp[1] * step))
    assert found.border_inflammatory_mm2 == pytest.approx(math.pi * (0.25 - 0.16), rel=0.01)
    assert found.border_stroma_mm2 == pytest.approx(math.pi * (0.64 - 0.25), rel=0.005)
    assert found.bed_tumor_mm2 == pytest.approx(math.pi * 0.16, rel=0.005)
    assert found.stromal_inflammation_fraction == pytest.approx(9 / 48, rel=0.01)


def test_the_worst_field_lies_where_stroma_is(tmp_path):
    """Stripes of tumor; in the lower half stroma is between them, in the upper half fat."""
    labels = np.full((700, 400), FAT, np.uint8)
    labels[350:] = STROMA
    labels[:, ::4] = TUMOR
    labels[:, 1::4] = TUMOR
    found = measured(tmp_path, labels)
    assert found.worst_field_tumor_stroma_ratio == pytest.approx(0.5, abs=0.01)
    assert found.worst_field_um is not None
    assert found.worst_field_um[0] >= 350 * 8 - 250
    assert found.tumor_stroma_ratio is not None
    assert found.tumor_stroma_ratio < 0.4


def test_sizes_of_foci_are_told_by_median_percentile_share_and_bins(tmp_path):
    sides = [13, 20, 20, 25, 40, 40, 60, 60, 60, 130]
    labels = np.full((300, 700), STROMA, np.uint8)
    x = 2
    for side in sides:
        labels[5 : 5 + side, x : x + side] = TUMOR
        x += side + 2
    found = measured(tmp_path, labels)
    areas = np.array(sides) ** 2 * 64e-6
    assert found.foci_area_mm2 == pytest.approx(areas.sum())
    assert found.median_focus_mm2 == pytest.approx(1600 * 64e-6)
    assert found.p90_focus_mm2 == pytest.approx((0.9 * 3600 + 0.1 * 16900) * 64e-6)
    assert found.largest_focus_share == pytest.approx(
        16900 / (np.array(sides) ** 2).sum(), abs=1e-6
    )
    counts = [
        ((areas >= low) & (areas < high)).sum()
        for low, high in zip(FOCUS_EDGES_MM2, [*FOCUS_EDGES_MM2[1:], np.inf], strict=True)
    ]
    assert found.foci_by_size == tuple(counts) == (3, 1, 5, 0, 1, 0, 0, 0, 0)


def lacking(*names: str) -> tuple[ClassInfo, ...]:
    return tuple(info for info in BCSS5 if info.name not in names)


NO_CELLS = "the model has no class of inflammatory cells"


@pytest.mark.parametrize(
    ("absent", "figure", "reason"),
    [
        ("stroma", "tumor_stroma_ratio", "the model has no class stroma"),
        ("stroma", "stromal_inflammation_fraction", "the model has no class stroma"),
        ("stroma", "bed_tumor_mm2", "the model has no class stroma"),
        (
            "inflammatory",
            "stromal_inflammation_fraction",
            "the model has no class of inflammatory cells",
        ),
        ("inflammatory", "border_inflammatory_mm2", NO_CELLS),
        ("necrosis", "necrosis_fraction", "the model has no class necrosis"),
        ("necrosis", "necrosis_mm2", "the model has no class necrosis"),
        ("tumor", "tumor_stroma_ratio", "the model has no class of invasive tumor"),
        ("tumor", "median_focus_mm2", "the model has no class of tumor"),
        ("tumor", "necrosis_fraction", "the model has no class of tumor"),
    ],
)
def test_a_figure_whose_class_the_model_lacks_has_a_reason(tmp_path, absent, figure, reason):
    classes = lacking(absent)
    labels = np.full((300, 300), classes[0].code, np.uint8)
    found = asdict(measured(tmp_path, labels, classes=classes))
    assert found[figure] is None
    assert found["not_measured"][figure] == reason


@pytest.mark.parametrize(
    "classes",
    [
        BCSS21,
        BCSS5,
        lacking("stroma"),
        lacking("inflammatory"),
        lacking("necrosis"),
        lacking("tumor"),
    ],
)
@pytest.mark.parametrize("is_empty", [True, False])
def test_every_missing_figure_has_a_reason_and_no_other(tmp_path, classes, is_empty):
    labels = np.full((300, 300), 0 if is_empty else classes[-1].code, np.uint8)
    found = asdict(measured(tmp_path, labels, classes=classes))
    reasons = found.pop("not_measured")
    assert {name for name, value in found.items() if value is None} == set(reasons)
    assert all(reasons.values())


def random_labels(seed: int, height: int, width: int) -> np.ndarray:
    """Patches of all kinds."""
    rng = np.random.default_rng(seed)
    patches = rng.choice([0, TUMOR, TUMOR, STROMA, INFLAMED, NECROSIS, DCIS, FAT], (12, 12))
    ys, xs = np.arange(height) * 12 // height, np.arange(width) * 12 // width
    return patches[ys[:, None], xs].astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(30, 90), st.integers(30, 90), st.integers(5, 60))
def test_counts_by_tiles_equal_those_of_the_whole_map(seed, height, width, tile_px):
    labels, kinds = random_labels(seed, height, width), tissue_kinds(BCSS21)
    frame = Frame(Extent(height, width), 60.0, 50.0)
    foci = only_foci(has_code(labels, [TUMOR]), frame)
    whole = count_zones(labels, foci, kinds, frame, tile_px=90)
    assert count_zones(labels, foci, kinds, frame, tile_px) == whole
    tiles = list(zone_tiles(foci, frame, 90))
    bed = tiles[0].bed if tiles else np.zeros_like(foci)
    border = tiles[0].border if tiles else np.zeros_like(foci)
    assert whole == ZoneCounts(
        bed=(bed & (labels > 0)).sum(),
        bed_tumor=(bed & (labels == TUMOR)).sum(),
        bed_stroma=(bed & (labels == STROMA)).sum(),
        bed_inflammatory=(bed & (labels == INFLAMED)).sum(),
        border_stroma=(border & (labels == STROMA)).sum(),
        border_inflammatory=(border & (labels == INFLAMED)).sum(),
    )
