"""The last step of a slide."""

import os
from pathlib import Path

import pytest
from standins import small_slide

from noctile.pipeline import readable
from noctile.pipeline.errors import ChangedWhileReadError, StoreError, UnreadableTissueError
from noctile.pipeline.slides.fingerprint import fingerprint
from noctile.workflows.jobs import unchanged
from noctile.workflows.jobs.finish import finish_slide
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.segment_block import segment_step
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.files import read_json


@pytest.fixture
def segmented(job):
    for block in prepare_slide(job("prepare")).blocks:
        segment_step(job("segment", block))


@pytest.mark.usefixtures("segmented")
class TestFinishSlide:
    def test_the_result_is_complete_and_in_its_place(self, job, run, staged):
        finish_slide(job("finish"))
        folder = run.results.slide("a")
        assert slide_fault(folder) is None
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
        monkeypatch.setattr(readable, "MAX_UNREADABLE", -1.0)
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

    @pytest.mark.parametrize("name", ["tiles.parquet", "preview.jpg", "checksums.json"])
    def test_a_measured_file_that_is_torn_is_written_again(self, job, run, name):
        finish_slide(job("finish"))
        path = run.results.slide("a").path / name
        whole = path.read_bytes()
        path.write_bytes(whole[:7])
        finish_slide(job("finish"))
        assert path.read_bytes() == whole

    def test_everything_is_on_the_disk_before_the_summary_and_the_summary_before_the_move(
        self, job, run, staged, monkeypatch
    ):
        """Only the summary and the record of checksums are written after the other folders."""
        synced, sync = [], os.fsync

        def record(number: int) -> None:
            synced.append(Path(f"/proc/self/fd/{number}").readlink())
            sync(number)

        monkeypatch.setattr(os, "fsync", record)
        finish_slide(job("finish"))
        final = run.results.slide("a").path
        names = [path.name for path in synced]
        at = {name: k for k, name in enumerate(names) if name.startswith(".")}
        record_at, summary_at = (
            next(k for n, k in at.items() if n.startswith(f".{stem}."))
            for stem in ("checksums", "summary")
        )
        assert record_at < summary_at
        assert staged.path in synced[record_at:summary_at]
        assert staged.path in synced[summary_at:]
        assert [*synced[-3:]] == [final, final.parent, staged.path.parent]
