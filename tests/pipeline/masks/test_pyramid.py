import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=15)
@given(
    st.integers(513, 1100),
    st.integers(1, 700),
    st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6),
)
def test_the_pyramid_of_blocks_is_that_of_the_whole_label_map(
    tmp_path_factory, height, width, keys
):
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


def test_a_second_call_changes_no_byte(tmp_path):
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
    """The label map has 200,000 x 100,000 px (20 GB), with four blocks of 2048 px."""
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
