import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.downsample import halve_labels
from noctile.pipeline.masks.layout import BLOCK_LEVELS, MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo

CLASSES = tuple(
    ClassInfo(code=k, name=f"c{k}", color=(k, k, k), role="tissue") for k in (1, 2, 3, 255)
)
CODES = st.sampled_from([0, 1, 2, 3, 255])


def make(folder: Path, layout: MaskLayout) -> MaskStore:
    frame = layout.frame.coarser(64)
    overview = np.zeros((frame.extent.height, frame.extent.width, 3), np.uint8)
    provenance = {"slide": {"mpp": [1.0, 1.0], "bounds_px": [0, 0, 1, 1]}}
    return MaskStore.create(folder / "mask.ome.zarr", layout, overview, frame, provenance)


def write(store: MaskStore, row: int, col: int, labels: np.ndarray) -> None:
    box = store.layout.shard_box(row, col)
    cells = store.layout.heat_box(box).extent
    maps = np.zeros((cells.height, cells.width), np.uint8)
    store.write(box, labels, maps, maps)


def naive(labels: np.ndarray) -> np.ndarray:
    """One pixel at a time: most votes, then not 0, then the smallest."""
    height, width = labels.shape
    out = np.zeros((-(-height // 2), -(-width // 2)), np.uint8)
    for y, x in np.ndindex(out.shape):
        votes = Counter(labels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())
        out[y, x] = min(votes, key=lambda code: (-votes[code], code == 0, code))
    return out


@pytest.mark.parametrize(
    ("four", "most"),
    [
        ([5, 5, 5, 5], 5),
        ([0, 0, 0, 3], 0),
        ([9, 2, 9, 9], 9),
        ([7, 4, 4, 7], 4),  # a tie: the smaller
        ([0, 8, 8, 0], 8),  # a tie: not 0
        ([0, 0, 1, 2], 0),  # no tie
        ([6, 0, 5, 6], 6),
        ([4, 3, 2, 255], 2),
        ([4, 3, 0, 255], 3),
    ],
)
def test_the_most_frequent_label_wins_and_ties_go_to_the_smallest_code_but_zero(four, most):
    assert halve_labels(np.array(four, np.uint8).reshape(2, 2)).tolist() == [[most]]


def test_pixels_outside_do_not_vote():
    labels = np.array([[1, 1, 0], [1, 1, 2], [3, 0, 0]], np.uint8)
    assert halve_labels(labels).tolist() == [[1, 2], [3, 0]]


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=CODES))
def test_halving_equals_counting_one_pixel_at_a_time(labels):
    before = labels.copy()
    assert (halve_labels(labels) == naive(labels)).all()
    assert (labels == before).all()


@settings(max_examples=15)
@given(
    st.integers(513, 1100),
    st.integers(1, 700),
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6),
)
def test_blocks_give_the_pyramid_of_the_whole(tmp_path_factory, height, width, keys):
    layout = MaskLayout(Frame(Extent(height, width), 1.0, 1.0), 200, 40, CLASSES)
    store, rng = (
        make(tmp_path_factory.mktemp("p"), layout),
        np.random.default_rng(height * 1000 + width),
    )
    whole = np.zeros((height, width), np.uint8)
    for row, col in keys:
        box = layout.shard_box(row, col)
        if box.area:
            whole[box.slices()] = rng.choice(
                np.array([0, 1, 2, 3, 255], np.uint8), (box.height, box.width)
            )
            write(store, row, col, whole[box.slices()])
    build_pyramid(store)
    for level in range(1, layout.levels):
        whole = halve_labels(whole)
        assert (store.read_level(level) == whole).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.9])
def test_halving_is_the_same_whether_few_places_are_mixed_or_many(share):
    rng = np.random.default_rng(4)
    labels = np.kron(rng.integers(0, 4, (9, 7), np.uint8), np.ones((8, 8), np.uint8))[:71, :55]
    labels = np.where(
        rng.random(labels.shape) < share, rng.integers(0, 4, labels.shape, np.uint8), labels
    )
    assert (halve_labels(labels) == naive(labels)).all()


def test_a_block_writes_its_part_of_the_first_levels_itself(tmp_path):
    layout = MaskLayout(Frame(Extent(2000, 1100), 1.0, 1.0), 200, 40, CLASSES)
    store, rng = make(tmp_path, layout), np.random.default_rng(2)
    whole = np.zeros((2000, 1100), np.uint8)
    for key in ((0, 0), (3, 5), (9, 2)):
        box = layout.shard_box(*key)
        whole[box.slices()] = rng.integers(1, 3, (box.height, box.width), np.uint8)
        write(store, *key, whole[box.slices()])
    for level in range(BLOCK_LEVELS):
        assert store.stored_shards(level) == [(0, 0), (3, 5), (9, 2)]
        assert (store.read_level(level) == whole).all()
        whole = halve_labels(whole)
    assert not store.stored_shards(BLOCK_LEVELS)


def test_building_twice_changes_no_byte(tmp_path):
    layout = MaskLayout(Frame(Extent(1500, 1100), 1.0, 1.0), 400, 100, CLASSES)
    store = make(tmp_path, layout)
    write(store, 1, 1, np.random.default_rng(0).choice(np.array([0, 1, 2], np.uint8), (400, 400)))
    trees = []
    for _ in range(2):
        build_pyramid(store)
        trees.append({p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()})
    assert trees[0] == trees[1]


def test_a_slide_without_a_label_has_an_empty_pyramid(tmp_path):
    store = make(tmp_path, MaskLayout(Frame(Extent(1500, 1100), 1.0, 1.0), 400, 100, CLASSES))
    build_pyramid(store)
    assert store.layout.levels == 3
    assert not any(store.read_level(level).any() for level in range(3))
    assert not list(store.path.glob("labels/classes/*/c"))


def test_memory_does_not_grow_with_the_slide(tmp_path):
    """A slide of 200,000 x 100,000 label pixels, four blocks of 2048 in one corner: some blocks,
    not 20 GB."""
    store = make(
        tmp_path, MaskLayout(Frame(Extent(100_000, 200_000), 0.25, 0.25), 2048, 512, CLASSES)
    )
    for key in ((0, 0), (0, 1), (1, 0), (1, 1)):
        write(store, *key, np.ones((2048, 2048), np.uint8))
    tracemalloc.start()
    build_pyramid(store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2048**2
    assert [len(store.stored_shards(level)) for level in range(5)] == [4, 4, 4, 1, 1]
    coarsest = store.read_level(store.layout.levels - 1)
    assert coarsest.sum() == (4096 / 2 ** (store.layout.levels - 1)) ** 2
