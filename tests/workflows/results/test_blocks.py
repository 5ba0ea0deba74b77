"""Files of blocks that a later run trusts."""

import json
import shutil

import pytest

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.plan import Block, TileGrid, TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.segment_block import segment_step
from noctile.workflows.jobs.worker import read_plan
from noctile.workflows.results.blocks import block_faults, collect_block_stats
from noctile.workflows.results.files import write_json
from noctile.workflows.results.layout import SlideFolder


@pytest.fixture
def prepared(job):
    """A slide whose blocks are written."""
    prepared = prepare_slide(job("prepare"))
    for block in prepared.blocks:
        segment_step(job("segment", block))
    return prepared


@pytest.fixture
def faults(prepared, staged):
    """Function that checks the blocks of the slide."""
    return lambda: block_faults(staged, prepared.key, read_plan(staged)[0])


def test_whole_blocks_have_no_fault_before_and_after_their_statistics_are_gathered(faults, staged):
    assert faults() == {}
    collect_block_stats(staged, read_plan(staged)[0])
    assert not staged.blocks.exists()
    assert faults() == {}


def test_a_block_that_was_not_written_is_named(job, staged):
    prepared = prepare_slide(job("prepare"))
    segment_step(job("segment", prepared.blocks[0]))
    found = block_faults(staged, prepared.key, read_plan(staged)[0])
    assert found.keys() == set(prepared.blocks[1:])


SHARDS = [
    "mask.ome.zarr/labels/classes/0/c/1/1",
    "mask.ome.zarr/labels/classes/2/c/1/1",
    "heat.ome.zarr/0/c/0/1/1",
]


@pytest.mark.parametrize("name", [*SHARDS, "blocks/1.1.json"])
@pytest.mark.parametrize("kept", [0, 40, -1])
def test_an_empty_or_torn_file_of_a_block_is_a_fault_of_this_block_only(faults, staged, name, kept):
    path = staged.path / name
    path.write_bytes(path.read_bytes()[:kept])
    assert faults().keys() == {(1, 1)}


@pytest.mark.parametrize("name", SHARDS)
def test_a_missing_shard_and_the_shard_of_another_block_are_faults(faults, staged, name):
    path = staged.path / name
    shutil.copy(path.with_name("0"), path)
    assert "are not those that 1.1.json names" in faults()[1, 1]
    path.unlink()
    assert "are not those that 1.1.json names" in faults()[1, 1]


def test_statistics_of_another_slide_are_a_fault(faults, staged):
    path = staged.block_stats((0, 0))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "other"}))
    assert faults() == {(0, 0): "0.0.json belongs to another slide or another plan"}


@pytest.mark.parametrize("name", SHARDS)
def test_a_torn_shard_is_found_after_the_statistics_are_gathered(faults, staged, name):
    collect_block_stats(staged, read_plan(staged)[0])
    (staged.path / name).write_bytes(b"")
    assert faults().keys() == {(1, 1)}


def test_gathered_statistics_that_are_torn_make_every_block_a_fault(faults, staged, prepared):
    collect_block_stats(staged, read_plan(staged)[0])
    staged.block_stats_file.write_bytes(b"{")
    assert faults().keys() == set(prepared.blocks)


def test_a_temporary_file_of_a_killed_writer_is_not_read_as_the_result_of_a_block(tmp_path):
    folder = SlideFolder(tmp_path)
    extent = Extent(64, 128)
    blocks = tuple(Block(0, col, Box(0, 64 * col, 64, 64), ((0, col),)) for col in (0, 1))
    plan = TilePlan(
        "s", 1.0, Frame(extent, 1.0, 1.0), TileGrid(64, 0, extent), "crop", 64, 1, blocks
    )
    stats = {
        (0, col): BlockStats(analysed_px=col, seam_px=0, seam_differing_px=0) for col in (0, 1)
    }
    for key, values in stats.items():
        write_json(folder.block_stats(key), {"key": "k", "stats": values.to_json(), "shards": {}})
    (folder.blocks / ".0.1.4711.tmp.json").touch()
    assert collect_block_stats(folder, plan) == stats
