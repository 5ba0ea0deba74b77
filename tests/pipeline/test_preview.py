import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.preview import (
    labels_on,
    overlay_labels,
    panel_frame,
    preview_of,
    render_preview,
    scale_bar_um,
)
from noctile.pipeline.roi.regions import read_roi

TUMOR = ClassInfo(code=1, name="tumor", color=(220, 30, 30), role="tumor")
OTHER = ClassInfo(code=2, name="other_tissue", color=(30, 110, 220), role="tissue")
ABSENT = ClassInfo(code=9, name="fat", color=(10, 240, 10), role="tissue")
INK = (30, 30, 30)


def draw(
    height: int, width: int, areas: dict[str, float] | None = None, title: str = "slide"
) -> np.ndarray:
    """Draw the preview of a grey slide with pixels of 8 um, all of it tumor."""
    frame = Frame(Extent(height, width), 8.0, 8.0)
    pixels, labels = np.full((height, width, 3), 200, np.uint8), np.ones((height, width), np.uint8)
    areas = {"tumor": 1.0, "other_tissue": 0.5, "fat": 0.0} if areas is None else areas
    return np.asarray(
        render_preview((pixels, frame), (labels, frame), (TUMOR, OTHER, ABSENT), title, areas)
    )


def has(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((picture == color).all(axis=-1).any())


@pytest.mark.parametrize(
    ("height", "width"),
    [(2500, 3125), (60, 3000), (3000, 60), (6, 5), (1, 1), (1, 4000), (90, 140)],
)
def test_any_shape_of_slide_fits_the_page_and_fills_most_of_it(height, width):
    picture = draw(height, width)
    assert 640 <= picture.shape[1] <= 1600
    assert picture.shape[0] <= 1500
    panel = panel_frame(Frame(Extent(height, width), 8.0, 8.0))
    assert panel.extent.width >= 600 or panel.extent.height >= 1000 or panel.extent.height == 600
    assert panel.area_mm2 == pytest.approx(height * width * 64e-6)


def test_panels_lie_side_by_side_unless_the_slide_is_wide():
    for (height, width), n_columns in (((100, 199), 2), ((100, 201), 1)):
        picture = draw(height, width)
        panel = panel_frame(Frame(Extent(height, width), 8.0, 8.0))
        middle_of_the_first = picture[66 + panel.extent.height // 2]
        grey = (middle_of_the_first == 200).all(axis=-1).sum()
        assert grey == panel.extent.width
        assert has(middle_of_the_first[None], (210, 115, 115)) == (n_columns == 2)


def test_a_pixel_that_is_not_square_is_drawn_in_its_true_proportions():
    panel = panel_frame(Frame(Extent(100, 100), 8.0, 16.0))
    assert panel.extent.width / panel.extent.height == pytest.approx(2, rel=0.01)
    assert panel.mpp_y == pytest.approx(panel.mpp_x, rel=0.01)


def test_the_legend_shows_the_classes_that_were_found_and_no_others():
    picture = draw(100, 140)
    below = picture[66 + panel_frame(Frame(Extent(100, 140), 8.0, 8.0)).extent.height + 20 :]
    assert has(below, TUMOR.color)
    assert has(below, OTHER.color)
    assert not has(below, ABSENT.color)


def test_regions_of_interest_are_outlined_on_both_panels_with_their_holes():
    """Pixels of level 0 of 2 x 4 um; the panel has others."""
    corners, hole = (
        [[100, 40], [400, 40], [400, 160], [100, 160]],
        [[200, 80], [300, 80], [300, 120]],
    )
    geometry = {"type": "Polygon", "coordinates": [[*r, r[0]] for r in (corners, hole)]}
    feature = {"type": "Feature", "geometry": geometry, "properties": {}}
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    roi = read_roi(text.encode(), "roi", Frame(Extent(200, 560), 4.0, 2.0))
    frame = Frame(Extent(100, 140), 8.0, 8.0)
    pixels, labels = np.full((100, 140, 3), 200, np.uint8), np.ones((100, 140), np.uint8)
    about = (pixels, frame), (labels, frame), (TUMOR,), "n" * 300, {"tumor": 1.0}
    found = np.asarray(render_preview(*about, roi)).astype(int)
    without = np.asarray(render_preview(*about)).astype(int)
    panel = panel_frame(frame)
    for left in (20, 20 + panel.extent.width + 20):
        for x, y in ((100, 100), (250, 40), (250, 80), (300, 100), (400, 159)):
            at = 66 + round(y * 4.0 / panel.mpp_y), left + round(x * 2.0 / panel.mpp_x)
            assert tuple(found[at]) == (0, 48, 143)
        inside = 66 + round(400 / panel.mpp_y), left + round(300 / panel.mpp_x)
        assert tuple(found[inside]) == tuple(without[inside])
    assert (found[:60] != without[:60]).any()  # the title says so, however long the name
    assert found.shape == without.shape


def test_a_trace_of_a_class_is_in_the_legend():
    assert has(draw(100, 140, {"fat": 1e-6}), ABSENT.color)


def test_a_slide_without_labels_is_drawn_with_a_note():
    empty, one = draw(100, 140, {}), draw(100, 140, {"tumor": 1.0})
    assert empty.shape == one.shape
    assert not has(empty, TUMOR.color)
    assert (empty[-60:] == INK).all(axis=-1).any()


@pytest.mark.parametrize("width", [140, 3125, 6])
def test_the_scale_bar_has_the_length_of_its_text(width):
    frame = Frame(Extent(width, width), 8.0, 8.0)
    panel, picture = panel_frame(frame), draw(width, width)
    rows = picture[66 + panel.extent.height + 20 :]
    black = (rows[10, : 20 + panel.extent.width] == INK).all(axis=-1)
    start = int(np.argmax(black))
    length_px = int(np.argmin(black[start:]))
    assert start == 20
    assert length_px * panel.mpp_x == pytest.approx(scale_bar_um(width * 8.0), abs=panel.mpp_x)


def test_a_scale_bar_has_a_round_length_of_a_tenth_to_a_quarter_of_the_width():
    assert [scale_bar_um(w) for w in (4.0, 79.9, 80.0, 900.0, 1999.0, 2000.0, 25_000.0)] == [
        1,
        10,
        20,
        200,
        200,
        500,
        5000,
    ]
    for width_um in np.geomspace(3, 1e6, 500):
        assert width_um / 10 <= scale_bar_um(width_um) <= width_um / 4


@pytest.mark.parametrize("power", range(-3, 7))
def test_a_width_just_below_a_power_of_ten_has_a_scale_bar(power):
    width_um = np.nextafter(4 * 10.0**power, 0)  # its logarithm is rounded up
    assert width_um / 10 <= scale_bar_um(width_um) <= width_um / 4


def test_a_long_title_and_many_classes_stay_on_the_page():
    classes = tuple(
        ClassInfo(
            code=k, name="n" * 64 if k == 1 else f"class_{k}", color=(10 * k, 0, 255), role="tissue"
        )
        for k in range(1, 22)
    )
    frame = Frame(Extent(300, 20), 8.0, 8.0)
    pixels, labels = np.full((300, 20, 3), 200, np.uint8), np.ones((300, 20), np.uint8)
    picture = np.asarray(
        render_preview(
            (pixels, frame), (labels, frame), classes, "W" * 500, {c.name: 1.0 for c in classes}
        )
    )
    assert picture.shape[1] == 640
    assert (picture[:, -20:] == 255).all()
    assert all(has(picture, c.color) for c in classes)


def test_class_colours_lie_half_over_the_tissue_with_a_line_around_it():
    pixels = np.full((7, 7, 3), 100, np.uint8)
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    labels[3, 3] = 2
    out = overlay_labels(pixels, labels, (TUMOR, OTHER))
    assert out[0, 0].tolist() == [100, 100, 100]
    assert out[1, 3].tolist() == out[3, 5].tolist() == [0, 0, 0]
    assert out[2, 2].tolist() == [160, 65, 65]
    assert out[3, 3].tolist() == [65, 105, 160]


def test_there_is_no_line_where_the_slide_ends():
    out = overlay_labels(np.full((4, 4, 3), 100, np.uint8), np.ones((4, 4), np.uint8), (TUMOR,))
    assert (out == [160, 65, 65]).all()


def test_labels_lie_over_the_same_micrometres_as_the_panel():
    labels = np.zeros((10, 20), np.uint8)
    labels[2:4, 6:9] = 1  # 8..16 um down, 12..18 um right
    on = labels_on(Frame(Extent(45, 45), 1.0, 1.0), labels, Frame(Extent(10, 20), 4.0, 2.0))
    assert (np.argwhere(on).min(axis=0) == [8, 12]).all()
    assert (np.argwhere(on).max(axis=0) == [15, 17]).all()
    assert on.sum() == 8 * 6


def test_a_coarse_panel_takes_the_label_under_the_centre_of_its_pixels():
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    on = labels_on(Frame(Extent(2, 2), 4.0, 4.0), labels, Frame(Extent(8, 8), 1.0, 1.0))
    assert on.tolist() == [[18, 22], [50, 54]]


def test_beyond_the_label_map_nothing_was_analysed():
    on = labels_on(
        Frame(Extent(6, 6), 1.0, 1.0), np.ones((2, 2), np.uint8), Frame(Extent(2, 2), 2.0, 2.0)
    )
    assert on.sum() == 16
    assert not on[4:].any()
    assert not on[:, 4:].any()


def finished_store(
    folder: Path, labels: np.ndarray, overview: np.ndarray, factor: int
) -> MaskStore:
    frame = Frame(Extent(*labels.shape), 0.25, 0.25)
    layout = MaskLayout(frame, 512, 256, (TUMOR, OTHER, ABSENT))
    provenance = {"slide": {"mpp": [0.25, 0.25], "bounds_px": [0, 0, *labels.shape]}}
    store = MaskStore.create(
        folder / "mask.ome.zarr", layout, overview, frame.coarser(factor), provenance
    )
    for row in range(-(-labels.shape[0] // 512)):
        for col in range(-(-labels.shape[1] // 512)):
            box = layout.shard_box(row, col)
            cells = layout.heat_box(box).extent
            maps = np.zeros((cells.height, cells.width), np.uint8)
            store.write(box, labels[box.slices()], maps, maps)
    build_pyramid(store)
    return store


@pytest.fixture
def small_store(tmp_path: Path) -> MaskStore:
    labels = np.ones((600, 900), np.uint8)
    labels[:, 450:] = 2
    return finished_store(tmp_path, labels, np.full((38, 57, 3), 220, np.uint8), 16)


def test_the_preview_of_a_store_fills_the_page_and_is_the_same_each_time(small_store):
    one, other = (preview_of(small_store, "slide", {"tumor": 1.0}) for _ in range(2))
    assert one.size[0] == 1600
    assert one.tobytes() == other.tobytes()


def test_on_a_real_region_the_overlay_is_red_where_pathologists_saw_tumor(tmp_path, shared_data):
    with (
        Image.open(shared_data / "bcss/images/1015.jpg") as image,
        Image.open(shared_data / "bcss/masks/1015.jpg") as truth,
    ):
        overview = np.asarray(image.convert("RGB").reduce(16))
        labels = np.where(np.asarray(truth.convert("L")) > 127, 1, 2).astype(np.uint8)
    store = finished_store(tmp_path, labels, overview, 16)
    picture = preview_of(store, "1015", {"tumor": 1.0, "other_tissue": 1.0})
    panel = panel_frame(store.thumbnail_frame)
    box = Box(66, 20 + panel.extent.width + 20, panel.extent.height, panel.extent.width)
    if panel.extent.width > 1000:  # one below the other
        box = Box(66 + panel.extent.height + 20, 20, panel.extent.height, panel.extent.width)
    overlay = np.asarray(picture)[box.slices()].astype(int)
    tumor = labels_on(panel, labels, store.layout.frame) == 1
    red = overlay[..., 0] > overlay[..., 2]
    assert 0.2 < tumor.mean() < 0.8
    assert (red == tumor).mean() > 0.95
