import pytest

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import (
    ArrayShape,
    MaskLayout,
    layout_from_json,
    layout_to_json,
    thumbnail_array,
)
from noctile.pipeline.models.card import ClassInfo

CLASSES = (
    ClassInfo(code=1, name="tumor", color=(220, 30, 30), role="tumor"),
    ClassInfo(code=7, name="stroma", color=(30, 30, 220), role="tissue"),
)
FRAME = Frame(Extent(5000, 4200), 0.5, 0.25)
LAYOUT = MaskLayout(FRAME, block_px=512, chunk_px=128, classes=CLASSES)


def test_the_coarsest_level_is_at_most_512_px_long():
    sizes = {512: 1, 513: 2, 1024: 2, 1025: 3, 100_000: 9}
    for longest, levels in sizes.items():
        layout = MaskLayout(Frame(Extent(10, longest), 1.0, 1.0), 8, 8, CLASSES)
        assert layout.levels == levels
        assert layout.level_frames[-1].extent.width <= 512


@pytest.mark.parametrize(("block_px", "chunk_px"), [(100, 50), (512, 100), (0, 1), (512, 0)])
def test_a_block_that_is_no_multiple_of_chunks_or_heat_map_pixels_is_refused(block_px, chunk_px):
    with pytest.raises(ValueError, match="multiple"):
        MaskLayout(FRAME, block_px, chunk_px, CLASSES)


def test_a_shard_covers_one_block_on_three_levels_and_as_many_pixels_as_a_block_on_the_others():
    assert [LAYOUT.shard_px(level) for level in range(LAYOUT.levels)] == [512, 256, 128, 512, 512]


def test_the_shards_of_a_level_cover_its_frame_without_overlap():
    for level, frame in enumerate(LAYOUT.level_frames):
        side = LAYOUT.shard_px(level)
        boxes = [
            LAYOUT.shard_box(row, col, level)
            for row in range(-(-frame.extent.height // side))
            for col in range(-(-frame.extent.width // side))
        ]
        assert sum(box.area for box in boxes) == frame.extent.area
        assert all(frame.box.contains(box) and box.area for box in boxes)


def test_the_parent_of_a_shard_covers_it_on_the_next_level():
    for level in range(LAYOUT.levels - 1):
        for row, col in ((0, 0), (1, 0), (1, 1), (0, 1)):
            fine = LAYOUT.shard_box(row, col, level)
            parent = LAYOUT.shard_box(*LAYOUT.parent_key(row, col, level), level + 1)
            half = Box(fine.y // 2, fine.x // 2, -(-fine.height // 2), -(-fine.width // 2))
            assert parent.contains(half)


def test_only_boxes_of_the_grid_cut_to_the_frame_are_blocks():
    assert LAYOUT.is_block(Box(512, 1024, 512, 512))
    assert LAYOUT.is_block(Box(4608, 4096, 392, 104))
    assert not LAYOUT.is_block(Box(4608, 4096, 512, 512))
    assert not LAYOUT.is_block(Box(8, 0, 512, 512))
    assert not LAYOUT.is_block(Box(-512, 0, 512, 512))


def test_a_box_is_projected_to_heat_map_pixels_or_refused():
    assert LAYOUT.heat_box(Box(512, 1024, 512, 512)) == Box(64, 128, 64, 64)
    assert LAYOUT.heat_box(Box(4608, 4096, 392, 104)) == Box(576, 512, 49, 13)
    for box in (Box(4, 0, 8, 8), Box(0, 0, 8, 12)):
        with pytest.raises(ValueError, match="cuts through heat-map pixels"):
            LAYOUT.heat_box(box)


def test_arrays_have_the_shapes_of_their_frames():
    assert LAYOUT.label_array(1) == ArrayShape((2500, 2100), (256, 256), (128, 128))
    assert LAYOUT.heat_array == ArrayShape((2, 625, 525), (2, 64, 64), (1, 64, 64))
    thumbnail = Frame(Extent(313, 263), 8.0, 4.0)
    assert thumbnail_array(thumbnail) == ArrayShape((3, 313, 263), (3, 512, 512), (3, 256, 256))


def test_a_layout_is_the_same_after_json():
    thumbnail = FRAME.coarser(16)
    assert layout_from_json(layout_to_json(LAYOUT, thumbnail)) == (LAYOUT, thumbnail)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frame", {"extent_px": [2**23, 700], "mpp": [1, 1]}),
        ("overview_frame", {"extent_px": [2**20, 2**20], "mpp": [1, 1]}),
        ("block_px", 2**16),
        ("chunk_px", 1),
    ],
)
def test_a_layout_that_asks_for_all_memory_is_refused(name, value):
    layout = MaskLayout(Frame(Extent(900, 700), 0.5, 0.5), 4096, 1024, LAYOUT.classes)
    values = layout_to_json(layout, Frame(Extent(90, 70), 8.0, 8.0))
    assert layout_from_json(values)[0] == layout
    with pytest.raises(ValueError, match=r"is no (label map|thumbnail)"):
        layout_from_json(values | {name: value})
