"""Whole runs on small slides with an exact model: engine, order and kills change no byte."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from standins import small_slide

from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.engines.base import attempt
from noctile.workflows.jobs.worker import OPEN_SLIDES
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

VOLATILE = {"runs", "run.log", "ledger.jsonl", "index.html", "index_files"}
"""Files and folders of results that hold times, host and pid."""


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Three slides with tissue, one of glass, one that is no slide."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(("a", "b", "c")):
        small_slide(folder / f"{name}.tif", seed=seed, height=1300 + 100 * seed, width=1700)
    small_slide(folder / "glass.tif", seed=None, height=900, width=900)
    (folder / "broken.tif").write_bytes(b"II*\0 this is no slide")
    return folder


def settings_for(model: Path, **more) -> RunSettings:
    return RunSettings(
        model=str(model), **{"engine": "serial", "block_px": 480, "device": "cpu", **more}
    )


def run_all(
    slides: Path, out: Path, settings: RunSettings, shuffle: int | None = None
) -> RunResult:
    entries = find_slides([slides], None, None).slides
    if shuffle is not None:
        random.Random(shuffle).shuffle(entries)
    return run_slides(entries, settings, out, lambda progress, say: None)


def contents(out: Path) -> dict[str, bytes]:
    """Every result file's bytes; tables without the column `seconds`, which is time."""
    files = {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.relative_to(out).parts[0] not in VOLATILE
    }
    del files["slides.csv"]  # the same table as the parquet file
    files["slides.parquet"] = (
        pq.read_table(out / "slides.parquet")
        .drop_columns(["run", "seconds"])
        .to_pandas()
        .to_csv()
        .encode()
    )
    return files


@pytest.fixture(scope="module")
def fresh(slides, model, tmp_path_factory) -> dict[str, bytes]:
    """Results of the serial engine."""
    out = tmp_path_factory.mktemp("fresh") / "results"
    result = run_all(slides, out, settings_for(model))
    assert [row.status for row in result.rows] == ["done", "done", "failed", "done", "done"]
    return contents(out)


def same(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []


class TestLaw6:
    """Serial = Dask; interrupted and resumed = fresh; the order of slides changes no byte."""

    def test_dask_equals_serial(self, slides, model, fresh, tmp_path):
        run_all(slides, tmp_path, settings_for(model, engine="dask", workers=2))
        same(contents(tmp_path), fresh)

    def test_shuffled_equals_sorted(self, slides, model, fresh, tmp_path):
        run_all(slides, tmp_path, settings_for(model), shuffle=3)
        same(contents(tmp_path), fresh)

    @pytest.mark.parametrize("after", [1, 4, 9, 15])
    def test_interrupted_and_resumed_equals_fresh_and_repeats_nothing(
        self, slides, model, fresh, tmp_path, after
    ):
        calls = []

        def interrupt(progress, say):
            calls.append(say)
            if len(calls) == after:
                raise KeyboardInterrupt

        entries = find_slides([slides], None, None).slides
        first = run_slides(entries, settings_for(model), tmp_path, interrupt)
        assert first.stopped == "interrupted"
        assert first.exit_code == 3
        assert {row.status for row in first.rows} & {"skipped"}
        run_all(slides, tmp_path, settings_for(model))
        same(contents(tmp_path), fresh)
        blocks = [
            (line["slide_id"], *line["block"])
            for line in ledger(tmp_path)
            if line["event"] == "segment"
        ]
        assert len(blocks) == len(set(blocks))

    def test_killed_at_random_moments_and_resumed_equals_fresh(
        self, slides, model, fresh, tmp_path
    ):
        command = [
            sys.executable,
            "-m",
            "noctile",
            "run",
            str(slides),
            "--out",
            str(tmp_path),
            "--model",
            str(model),
        ]
        config = tmp_path.parent / f"{tmp_path.name}.toml"
        config.write_text('engine = "serial"\nblock_px = 480\ndevice = "cpu"\n')
        rng = random.Random(7)
        for _ in range(3):
            process = subprocess.Popen(
                [*command, "--config", str(config)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(rng.uniform(1.0, 3.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
        run_all(slides, tmp_path, settings_for(model))
        same(contents(tmp_path), fresh)


def ledger(out: Path) -> list[dict]:
    return [
        json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines() if line.strip()
    ]


PLANNED = {"look", "prepare"}


class TestResume:
    def test_a_finished_run_changes_no_file_when_it_is_repeated(self, slides, model, tmp_path):
        run_all(slides, tmp_path, settings_for(model))
        before = {p: p.stat().st_mtime_ns for p in (tmp_path / "slides").rglob("*") if p.is_file()}
        result = run_all(slides, tmp_path, settings_for(model))
        assert {
            p: p.stat().st_mtime_ns for p in (tmp_path / "slides").rglob("*") if p.is_file()
        } == before
        assert [row.status for row in result.rows] == ["done", "done", "failed", "done", "done"]

    def test_another_setting_makes_new_results_and_keeps_files_of_the_user(
        self, slides, model, tmp_path
    ):
        run_all(slides, tmp_path, settings_for(model))
        note = tmp_path / "slides" / "a" / "my notes.txt"
        note.write_text("keep me")
        old = json.loads((tmp_path / "slides" / "a" / "summary.json").read_text())
        run_all(slides, tmp_path, settings_for(model, overlap_px=0, redo=True))
        new = json.loads((tmp_path / "slides" / "a" / "summary.json").read_text())
        assert new["key"] != old["key"]
        assert note.read_text() == "keep me"

    def test_a_changed_slide_is_done_again_and_the_others_are_kept(self, slides, model, tmp_path):
        copies = tmp_path / "copies"
        shutil.copytree(slides, copies)
        run_all(copies, tmp_path / "out", settings_for(model))
        kept = (tmp_path / "out" / "slides" / "b" / "summary.json").stat().st_mtime_ns
        small_slide(copies / "a.tif", seed=17, height=1300, width=1700)
        run_all(copies, tmp_path / "out", settings_for(model))
        assert (tmp_path / "out" / "slides" / "b" / "summary.json").stat().st_mtime_ns == kept
        segmented = [
            line
            for line in ledger(tmp_path / "out")
            if line["event"] in PLANNED and line["slide_id"] == "a"
        ]
        assert sum(line["fresh"] for line in segmented) == 2

    def test_workers_that_outlive_a_run_open_a_replaced_file_again(self, model, tmp_path):
        """Workers of --scheduler do; an open file keeps its contents when its name is taken."""
        (folder := tmp_path / "slides").mkdir()
        for seed in (0, 1):
            small_slide(tmp_path / "new.tif", seed=seed, height=1300, width=1700)
            (tmp_path / "new.tif").replace(folder / "a.tif")
            run_all(folder, tmp_path / "out", settings_for(model))
        OPEN_SLIDES.close()
        run_all(folder, tmp_path / "fresh", settings_for(model))
        one, other = (
            MaskStore.open(tmp_path / out / "slides" / "a" / "mask.ome.zarr").read_level(0)
            for out in ("out", "fresh")
        )
        assert np.array_equal(one, other)

    def test_results_of_slides_that_were_only_touched_are_kept(self, slides, model, tmp_path):
        copies = tmp_path / "copies"
        shutil.copytree(slides, copies)
        run_all(copies, tmp_path / "out", settings_for(model))
        before = contents(tmp_path / "out")
        summary = tmp_path / "out" / "slides" / "a" / "summary.json"
        written = summary.stat().st_mtime_ns
        for path in copies.iterdir():
            os.utime(path, (1, 1))
        run_all(copies, tmp_path / "out", settings_for(model))
        same(contents(tmp_path / "out"), before)
        assert summary.stat().st_mtime_ns == written

    @pytest.mark.parametrize("name", ["summary.json", "preview.jpg", "tiles.parquet"])
    def test_a_slide_without_a_measured_file_is_measured_again_and_not_predicted(
        self, slides, model, fresh, tmp_path, name
    ):
        """``noctile verify`` gives this advice."""
        run_all(slides, tmp_path, settings_for(model))
        predicted = sum(line["event"] == "segment" for line in ledger(tmp_path))
        (tmp_path / "slides" / "a" / name).unlink()
        run_all(slides, tmp_path, settings_for(model))
        assert sum(line["event"] == "segment" for line in ledger(tmp_path)) == predicted > 0
        same(contents(tmp_path), fresh)

    def test_a_mask_that_was_deleted_is_made_again(self, slides, model, fresh, tmp_path):
        run_all(slides, tmp_path, settings_for(model))
        shutil.rmtree(tmp_path / "slides" / "a" / "mask.ome.zarr")
        run_all(slides, tmp_path, settings_for(model))
        same(contents(tmp_path), fresh)


class TestResults:
    def test_areas_are_those_of_the_mask(self, slides, model, tmp_path):
        run_all(slides, tmp_path, settings_for(model))
        for row in pq.read_table(tmp_path / "slides.parquet").to_pylist():
            if row["status"] != "done":
                assert row["tissue_area_mm2"] is None
                continue
            store = MaskStore.open(tmp_path / "slides" / row["slide_id"] / "mask.ome.zarr")
            labels = store.read(store.layout.frame.box)
            mm2 = store.layout.frame.pixel_area_mm2
            assert row["tissue_area_mm2"] == pytest.approx((labels > 0).sum() * mm2, abs=1e-6)
            tumor = [c.code for c in store.layout.classes if c.role == "tumor"]
            assert row["tumor_area_mm2"] == pytest.approx(
                np.isin(labels, tumor).sum() * mm2, abs=1e-6
            )
            assert row["tumor_area_mm2"] <= row["tissue_area_mm2"]

    def test_tiles_add_up_to_the_slide(self, slides, model, tmp_path):
        run_all(slides, tmp_path, settings_for(model))
        rows = {
            row["slide_id"]: row for row in pq.read_table(tmp_path / "slides.parquet").to_pylist()
        }
        tiles = pq.read_table(tmp_path / "slides" / "a" / "tiles.parquet").to_pandas()
        area = tiles.height_um * tiles.width_um / 1e6 * tiles.tissue_fraction
        assert area.sum() == pytest.approx(rows["a"]["tissue_area_mm2"], rel=1e-4)
        fractions = [c for c in tiles.columns if c.startswith("fraction_")]
        assert np.allclose(tiles[fractions].sum(axis=1), 1, atol=1e-4)
        assert (area * tiles[fractions[0]]).sum() == pytest.approx(
            rows["a"][f"class_{fractions[0][9:]}_area_mm2"], rel=1e-3
        )

    def test_glass_is_done_with_no_tissue_and_area_0(self, slides, model, tmp_path):
        run_all(slides, tmp_path, settings_for(model))
        row = next(
            r
            for r in pq.read_table(tmp_path / "slides.parquet").to_pylist()
            if r["slide_id"] == "glass"
        )
        assert (row["status"], row["qc_flags"], row["tissue_area_mm2"], row["tumor_area_mm2"]) == (
            "done",
            ["no_tissue"],
            0,
            0,
        )
        assert row["tumor_fraction_of_tissue"] is None
        assert (tmp_path / "slides" / "glass" / "preview.jpg").exists()

    def test_a_failure_is_a_row_with_its_reason_and_a_traceback_in_the_ledger(
        self, slides, model, tmp_path
    ):
        result = run_all(slides, tmp_path, settings_for(model))
        row = next(r for r in result.rows if r.slide_id == "broken")
        assert row.status == "failed"
        assert row.reason == "unopenable"
        assert "broken.tif" in row.message
        line = next(line for line in ledger(tmp_path) if line["event"] == "failed")
        assert "Traceback" in line["traceback"]
        assert result.exit_code == 1

    def test_windows_agree_where_the_model_is_exact(self, slides, model, tmp_path):
        run_all(slides, tmp_path / "crop", settings_for(model))
        run_all(slides, tmp_path / "blend", settings_for(model, window="blend"))
        a, b = (
            MaskStore.open(tmp_path / w / "slides" / "a" / "mask.ome.zarr")
            for w in ("crop", "blend")
        )
        assert (a.read(a.layout.frame.box) == b.read(b.layout.frame.box)).mean() > 0.999


class WideEngine:
    """Engine with all jobs under way at once, which ends them in the reverse order."""

    slots = 100

    def run(self, do, next_job, stop):
        under_way = []
        while True:
            while (job := next_job()) is not None:
                under_way.append(job)
            if not under_way:
                return
            yield attempt(do, under_way.pop())

    def close(self):
        pass


class TestFailureInTheMiddle:
    def test_a_block_that_fails_while_others_run_fails_its_slide_and_no_other(
        self, slides, model, fresh, tmp_path, monkeypatch
    ):
        def broken(reader, plan, block, *rest):
            if plan.slide_id == "a" and block.key == plan.blocks[-2].key:
                raise SlideReadError("slide a: planted fault")
            return segment_block(reader, plan, block, *rest)

        monkeypatch.setattr("noctile.workflows.jobs.segment_block.segment_block", broken)
        monkeypatch.setattr("noctile.workflows.run.run.SerialEngine", WideEngine)
        result = run_all(slides, tmp_path, settings_for(model))
        assert {r.slide_id: r.status for r in result.rows if r.status == "failed"} == {
            "a": "failed",
            "broken": "failed",
        }
        a = next(row for row in result.rows if row.slide_id == "a")
        assert (a.reason, a.message) == ("unreadable", "slide a: planted fault")
        monkeypatch.undo()
        run_all(slides, tmp_path, settings_for(model, retry_failed=True))
        same(contents(tmp_path), fresh)


class TestPixelSize:
    def test_a_pixel_size_taken_from_the_objective_power_is_flagged(self, model, tmp_path):
        aperio = "Aperio Image Library v1|AppMag = 20"
        small_slide(
            tmp_path / "slides.svs", seed=0, height=900, width=1100, mpp=None, description=aperio
        )
        (row,) = run_all(tmp_path / "slides.svs", tmp_path / "out", settings_for(model)).rows
        assert (row.summary["mpp"], row.summary["mpp_source"]) == ([0.5, 0.5], "objective power")
        assert row.summary["qc_flags"] == ["mpp_estimated"]

    def test_tissue_wider_than_a_slide_is_refused(self, slides, model, tmp_path, monkeypatch):
        monkeypatch.setattr("noctile.pipeline.slide_plan.MAX_TISSUE_MM", 0.3)
        row = run_all(slides / "a.tif", tmp_path, settings_for(model)).rows[0]
        assert row.reason == "mpp_implausible"
        assert "--mpp" in row.message


class TestPlan:
    def test_the_masks_are_no_larger_than_planned(self, slides, model, tmp_path):
        run_all(slides, tmp_path, settings_for(model))
        folder = tmp_path / "slides" / "a"
        plan = TilePlan.from_json(json.loads((folder / "plan.json").read_text())["plan"])
        arrays = folder / "mask.ome.zarr" / "labels", folder / "heat.ome.zarr"
        shards = [p for array in arrays for p in array.rglob("c/**/*") if p.is_file()]
        assert 0 < sum(p.stat().st_size for p in shards) <= plan.disk_bytes


def test_a_folder_of_results_that_cannot_be_made_is_named(slides, model, tmp_path):
    from noctile.pipeline.errors import UsageError

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="file"):
        run_all(slides, tmp_path / "file", settings_for(model))


def test_a_run_leaves_no_process_and_no_temporary_file(slides, model, tmp_path):
    from noctile.workflows.processes.scratch import scratch_folder

    before = sorted(
        scratch_folder().iterdir()
    )  # what this process has for itself; other runs have theirs beside it
    run_all(slides, tmp_path, settings_for(model, engine="dask", workers=2))
    assert sorted(scratch_folder().iterdir()) == before
    assert [p.name for p in tmp_path.rglob("*tmp*")] == []
