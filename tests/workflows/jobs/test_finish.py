"""The last step of a slide."""

import pytest
from standins import small_slide

from noctile.pipeline.errors import ChangedWhileReadError, StoreError, UnreadableTissueError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.plan import Block, TileGrid, TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.slides.fingerprint import fingerprint
from noctile.workflows.jobs import finish, unchanged
from noctile.workflows.jobs.finish import collect_block_stats, finish_slide
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.segment_block import segment_step
from noctile.workflows.results.files import read_json, write_json
from noctile.workflows.results.layout import SlideFolder


@pytest.fixture
def segmented(job):
    for block in prepare_slide(job("prepare")).blocks:
        segment_step(job("segment", block))


@pytest.mark.usefixtures("segmented")
class TestFinishSlide:
    def test_the_result_is_complete_and_in_its_place(self, job, run, staged):
        finish_slide(job("finish"))
        folder = run.results.slide("a")
        assert folder.complete
        assert not staged.path.exists()
        summary = read_json(folder.summary)
        assert summary["slide_id"] == "a"
        assert summary["tissue_area_mm2"] > 0

    def test_a_step_that_is_repeated_changes_nothing(self, job, run):
        finish_slide(job("finish"))
        folder = run.results.slide("a")
        before = folder.summary.stat().st_mtime_ns
        finish_slide(job("finish"))
        assert folder.summary.stat().st_mtime_ns == before

    def test_a_slide_that_cannot_be_read_fails_and_is_planned_again_by_a_retry(
        self, job, staged, monkeypatch
    ):
        monkeypatch.setattr(finish, "MAX_UNREADABLE", -1.0)
        with pytest.raises(UnreadableTissueError, match="copy it again"):
            finish_slide(job("finish"))
        assert not staged.plan.exists()

    def test_a_slide_that_was_overwritten_since_it_was_planned_is_not_done(
        self, job, run, entry, staged
    ):
        small_slide(entry.path, seed=1, height=900, width=1100)
        with pytest.raises(ChangedWhileReadError, match="mix two versions"):
            finish_slide(job("finish"))
        assert not staged.summary.exists()
        assert not run.results.slide("a").path.exists()

    def test_one_sample_of_the_content_is_read(self, job, entry, monkeypatch):
        read = []
        monkeypatch.setattr(
            unchanged, "fingerprint", lambda path: read.append(path) or fingerprint(path)
        )
        finish_slide(job("finish"))
        assert read == [entry.path]

    def test_statistics_that_have_gone_are_named(self, job, staged):
        next(staged.blocks.iterdir()).unlink()
        with pytest.raises(StoreError, match="have gone; delete"):
            finish_slide(job("finish"))


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
        write_json(folder.block_stats(key), values.to_json(), compact=True)
    (folder.blocks / ".0.1.4711.tmp.json").touch()
    assert collect_block_stats(folder, plan) == stats
