"""The second step of a slide."""

import pytest

from noctile.pipeline.errors import ChangedWhileReadError, StorageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.quality import BlockStats
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.segment_block import segment_step
from noctile.workflows.jobs.worker import OPEN_SLIDES
from noctile.workflows.results.files import read_json


def test_a_block_leaves_its_statistics_and_its_shard_and_no_other(job, staged):
    prepared = prepare_slide(job("prepare"))
    block, n_tiles = prepared.blocks[0], prepared.tiles_of[0]
    assert segment_step(job("segment", block)) == n_tiles
    stats = BlockStats.from_json(read_json(staged.block_stats(block))["stats"])
    assert stats.analysed_px > 0
    assert [path.name for path in staged.blocks.iterdir()] == [f"{block[0]}.{block[1]}.json"]
    assert list(MaskStore.open(staged.mask).stored_shards()) == [block]


def test_a_slide_that_cannot_be_read_because_it_is_being_overwritten_has_changed(job, entry):
    block = prepare_slide(job("prepare")).blocks[0]
    OPEN_SLIDES.close()
    entry.path.write_bytes(b"the first bytes of a copy")
    with pytest.raises(ChangedWhileReadError):
        segment_step(job("segment", block))


def test_a_file_whose_disk_failed_is_opened_again(job, monkeypatch):
    block = prepare_slide(job("prepare")).blocks[0]
    segment_step(job("segment", block))
    readers = dict(OPEN_SLIDES._readers)

    def fail(*_: object) -> bytes:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr("noctile.pipeline.slides.tiff.reader.os.pread", fail)
        for reader in readers.values():
            reader._source.forget()
        with pytest.raises(StorageError, match="Stale file handle"):
            segment_step(job("segment", block))
    segment_step(job("segment", block))
    assert list(OPEN_SLIDES._readers) == list(readers)
    assert set(OPEN_SLIDES._readers.values()).isdisjoint(readers.values())


def test_a_block_that_is_repeated_writes_the_same_bytes(job, staged):
    block = prepare_slide(job("prepare")).blocks[0]

    def contents() -> dict[str, bytes]:
        segment_step(job("segment", block))
        return {str(p): p.read_bytes() for p in staged.path.rglob("*") if p.is_file()}

    assert contents() == contents()
