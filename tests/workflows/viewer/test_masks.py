import io
import shutil

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.workflows.viewer.layers import NoTileError
from noctile.workflows.viewer.masks import HeatTiles, LabelTiles, halve_heat

CLASSES = (
    ClassInfo(code=1, name="tumor", color=(200, 10, 20), role="tumor"),
    ClassInfo(code=7, name="stroma", color=(0, 160, 30), role="tissue"),
)
BLOCK = 512


def make_store(folder, labels: np.ndarray, heat=None, confidence=None) -> MaskStore:
    """Masks with these labels, and heat maps that are 0 unless they are given."""
    frame = Frame(Extent(*labels.shape), 0.5, 0.5)
    thumbnail = frame.coarser(16)
    pixels = np.zeros((thumbnail.extent.height, thumbnail.extent.width, 3), np.uint8)
    slide = {"mpp": [0.5, 0.5], "bounds_px": [0, 0, *labels.shape]}
    layout = MaskLayout(frame, BLOCK, BLOCK // 2, CLASSES)
    store = MaskStore.create(folder / "mask.ome.zarr", layout, pixels, thumbnail, {"slide": slide})
    nothing = np.zeros((-(-labels.shape[0] // 8), -(-labels.shape[1] // 8)), np.uint8)
    maps = [nothing if values is None else values for values in (heat, confidence)]
    for row in range(-(-labels.shape[0] // BLOCK)):
        for col in range(-(-labels.shape[1] // BLOCK)):
            box = layout.shard_box(row, col)
            parts = [values[layout.heat_box(box).slices()] for values in maps]
            store.write(box, labels[box.slices()], *parts)
    build_pyramid(store)
    return store


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Blobs of both classes, 1100 x 1300, with edges on the borders of tiles."""
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 1, 7], np.uint8), (110, 130)).repeat(10, 0).repeat(10, 1)
    labels[500:520, 500:520] = 1
    return labels


@pytest.fixture(scope="module")
def tiles(labels, tmp_path_factory) -> LabelTiles:
    return LabelTiles(make_store(tmp_path_factory.mktemp("labels"), labels))


def rgba(content: bytes) -> np.ndarray:
    """Pixels of a PNG as a browser shows them."""
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.mode) == ("PNG", "P")
    return np.asarray(image.convert("RGBA"))


def whole(tiles: LabelTiles, d: int, shown=None, style: str = "fill") -> np.ndarray:
    extent = tiles.layer.level(d).extent
    return np.vstack(
        [
            np.hstack(
                [
                    rgba(tiles.tile((d, row, col), shown, style))
                    for col in range(-(-extent.width // 512))
                ]
            )
            for row in range(-(-extent.height // 512))
        ]
    )


def coloured(labels: np.ndarray, codes=(1, 7)) -> np.ndarray:
    out = np.zeros((*labels.shape, 4), np.uint8)
    for info in CLASSES:
        if info.code in codes:
            out[labels == info.code] = (*info.color, 255)
    return out


def assert_same_picture(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare pixels that can be seen; the colour of transparent ones does not matter."""
    assert np.array_equal(found[..., 3], expected[..., 3])
    seen = expected[..., 3] > 0
    assert np.array_equal(found[seen], expected[seen])


def test_a_tile_has_the_colours_of_the_classes(tiles, labels):
    assert_same_picture(whole(tiles, 0), coloured(labels))


def test_coarser_tiles_are_the_label_pyramid(tiles):
    for d in range(tiles.layer.levels):
        assert_same_picture(whole(tiles, d), coloured(tiles._store.read_level(d)))


@pytest.mark.parametrize("shown", [{1}, {7}, {1, 7}, set(), {3, 255}])
def test_classes_that_are_not_shown_are_transparent(tiles, labels, shown):
    assert_same_picture(whole(tiles, 0, frozenset(shown)), coloured(labels, shown))


def test_outlines_join_without_seams(tiles, labels):
    around = np.pad(labels, 1)
    middle = around[1:-1, 1:-1]
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = np.any([other != middle for other in neighbours], axis=0)
    assert_same_picture(whole(tiles, 0, None, "outline"), coloured(np.where(edge, labels, 0)))


def test_there_is_no_tile_beyond_the_label_map(tiles):
    with pytest.raises(NoTileError):
        tiles.tile((0, 3, 0), None, "fill")


@pytest.fixture(scope="module")
def heat(tmp_path_factory) -> HeatTiles:
    """Heat maps of 600 x 700 px: the tumor's probability rises from left to right."""
    rows, columns = np.mgrid[:600, :700]
    tumor = (columns * 255 // 699).astype(np.uint8)
    confidence = np.where(rows < 300, 200, 0).astype(np.uint8)
    store = make_store(
        tmp_path_factory.mktemp("heat"), np.ones((4800, 5600), np.uint8), tumor, confidence
    )
    return HeatTiles(store)


def test_heat_is_transparent_where_nothing_was_analysed(heat):
    tile = rgba(heat.tile("tumor", (0, 0, 0)))
    assert tile.shape == (512, 512, 4)
    assert (tile[:300, :, 3] == 255).all()
    assert (tile[300:, :, 3] == 0).all()


def test_heat_has_the_colours_of_its_ramp(heat):
    first, last = rgba(heat.tile("tumor", (0, 0, 0))), rgba(heat.tile("tumor", (0, 0, 1)))
    assert first[0, 0, :3] == pytest.approx((255, 255, 229), abs=2)
    assert last[0, -1, :3] == pytest.approx((102, 37, 6), abs=2)
    assert len(np.unique(rgba(heat.tile("confidence", (0, 0, 0)))[:300], axis=0)[0]) == 512


def test_coarser_heat_is_the_mean_of_what_was_analysed(heat):
    tile = rgba(heat.tile("confidence", (1, 0, 0)))
    assert tile.shape == (300, 350, 4)
    assert (tile[:150, :, 3] == 255).all()
    assert (tile[150:, :, 3] == 0).all()


def test_halved_heat_leaves_out_what_was_not_analysed():
    tumor = np.array([[10, 20, 9], [99, 99, 9]], np.uint8)
    confidence = np.array([[100, 201, 0], [0, 0, 0]], np.uint8)
    assert halve_heat(np.stack((tumor, confidence))).tolist() == [[[15, 0]], [[151, 0]]]


def test_levels_in_memory_are_those_that_halving_makes(tmp_path_factory):
    """A label map of 17,000 px has 5 levels of heat; the last 3 are in memory."""
    rng = np.random.default_rng(1)
    values = rng.integers(1, 255, (2, 38, 2125), np.uint8)
    store = make_store(tmp_path_factory.mktemp("long"), np.ones((300, 17_000), np.uint8), *values)
    tiles = HeatTiles(store)
    assert tiles.layer.levels == 4
    expected = halve_heat(halve_heat(halve_heat(values)))
    assert np.array_equal(tiles._coarse_level(3), expected)
    assert rgba(tiles.tile("tumor", (3, 0, 0))).shape == (5, 266, 4)


def test_missing_heat_maps_are_named(tmp_path, labels):
    store = make_store(tmp_path, labels)
    shutil.rmtree(store.heat_path)
    with pytest.raises(StoreError, match="heat"):
        HeatTiles(MaskStore.open(store.path))
