"""Slides of a call, under the ids that they have in the folder of results."""

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from standins import small_slide

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture
def archive(tmp_path) -> Path:
    (folder := tmp_path / "archive" / "P1").mkdir(parents=True)
    small_slide(folder / "HE.tif", seed=1, height=600, width=700)
    return folder


@pytest.fixture
def run(model, tmp_path):
    """Function that runs slides into one folder of results."""

    def call(*slides: Path, manifest: Path | None = None, **more) -> RunResult:
        found = find_slides(slides, manifest, more.get("mpp"), warn=lambda line: None)
        settings = RunSettings(model=str(model), engine="serial", device="cpu", **more)
        out = tmp_path / "out"
        return run_slides(found.slides, settings, out, lambda *_: None, found.left_out)

    return call


@pytest.fixture
def rows(tmp_path):
    """Function that reads the rows of the table, by slide_id."""
    path = tmp_path / "out" / "slides.parquet"
    return lambda: {row["slide_id"]: row for row in pq.read_table(path).to_pylist()}


def predicted(out: Path) -> int:
    lines = (out / "ledger.jsonl").read_text().splitlines()
    return sum(json.loads(line)["event"] == "segment" for line in lines)


def test_a_second_batch_keeps_the_rows_of_the_first(archive, run, rows):
    small_slide(archive / "second.tif", seed=2, height=600, width=700)
    run(archive / "HE.tif")
    first = rows()["HE"]
    run(archive / "second.tif")
    assert rows().keys() == {"HE", "second"}
    assert rows()["HE"] == first
    assert rows()["second"]["run"] > first["run"]


def test_a_slide_of_another_patient_with_the_same_name_gets_its_folder_in_front(archive, run, rows):
    run(archive)
    before = rows()["HE"]
    (other := archive.with_name("P2")).mkdir()
    small_slide(other / "HE.tif", seed=9, height=600, width=700)
    run(other)
    assert rows().keys() == {"HE", "P2_HE"}
    assert rows()["HE"] == before


def test_a_slide_that_was_moved_and_renamed_keeps_its_id_and_is_not_done_again(
    archive, run, rows, tmp_path
):
    run(archive)
    n = predicted(tmp_path / "out")
    moved = archive.with_name("elsewhere.tif")
    (archive / "HE.tif").rename(moved)
    os.utime(moved, (1, 1))
    assert [row.slide_id for row in run(moved).rows] == ["HE"]
    assert predicted(tmp_path / "out") == n
    assert rows()["HE"]["path"] == str(moved)


def test_an_id_of_the_manifest_that_means_another_slide_is_refused(archive, run, rows, tmp_path):
    run(archive)
    before = rows()["HE"]
    other = tmp_path / "archive" / "other.tif"
    small_slide(other, seed=9, height=600, width=700)
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"slide_id,path\nHE,{other}\n")
    for _ in range(2):
        result = run(manifest=manifest)
        assert result.exit_code == 2
        assert [(row.status, row.reason) for row in result.rows] == [("failed", "id_taken")]
        assert "another slide_id in the manifest" in result.rows[0].message
    assert rows()["HE"] == before
    assert rows()["archive_HE"]["reason"] == "id_taken"
    manifest.write_text(f"slide_id,path\nother,{other}\n")
    assert run(manifest=manifest).exit_code == 0
    assert {i: row["status"] for i, row in rows().items()} == {"HE": "done", "other": "done"}


def test_other_settings_are_refused_with_the_number_of_results(archive, run, rows, tmp_path):
    run(archive)
    before = rows()
    with pytest.raises(UsageError, match=r"1 of 1 slides have results .*--redo to make them again"):
        run(archive, overlap_px=0)
    with pytest.raises(UsageError, match="another --out"):
        run(archive, mpp=0.3)
    assert rows() == before
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1
    run(archive, overlap_px=0, redo=True)
    assert rows()["HE"]["run"] > before["HE"]["run"]


def test_another_channel_order_is_refused_unless_the_slide_is_made_again(
    archive, run, rows, tmp_path
):
    summary = tmp_path / "out" / "slides" / "HE" / "summary.json"
    preview, manifest = summary.with_name("preview.jpg"), tmp_path / "m.csv"
    run(archive)
    first, rgb_preview = json.loads(summary.read_text()), preview.read_bytes()
    manifest.write_text("slide_id,channel_order\nHE,BGR\n")
    with pytest.raises(UsageError, match="1 of 1 slides have results"):
        run(archive, manifest=manifest)
    assert json.loads(summary.read_text()) == first
    run(archive, manifest=manifest, redo=True)
    second = json.loads(summary.read_text())
    assert (first["channel_order_given"], second["channel_order_given"]) == (None, "bgr")
    assert "red_blue_exchanged" not in first["qc_flags"]
    assert "red_blue_exchanged" in rows()["HE"]["qc_flags"]
    assert preview.read_bytes() != rgb_preview
    assert run(archive, manifest=manifest).exit_code == 0
    with pytest.raises(UsageError, match="--redo to make them again"):
        run(archive)


def test_a_slide_whose_content_has_changed_is_done_again(archive, run, rows):
    run(archive)
    before = rows()["HE"]
    small_slide(archive / "HE.tif", seed=5, height=600, width=700)
    run(archive)
    assert rows().keys() == {"HE"}
    assert rows()["HE"]["run"] > before["run"]


def test_a_copy_in_the_place_of_the_slide_changes_nothing(archive, run, tmp_path):
    run(archive)
    shutil.copy(archive / "HE.tif", tmp_path / "copy.tif")
    (tmp_path / "copy.tif").replace(archive / "HE.tif")
    n = predicted(tmp_path / "out")
    assert run(archive).exit_code == 0
    assert predicted(tmp_path / "out") == n


def test_later_manifests_update_their_columns_only_where_they_speak(archive, run, rows, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("slide_id,patient_id,age\nHE,P1,7\n")
    run(archive, manifest=manifest)
    manifest.write_text("slide_id,patient_id,sex\nHE,,f\n")
    run(archive, manifest=manifest)
    row = rows()["HE"]
    assert (row["patient_id"], row["age"], row["sex"]) == ("P1", 7, "f")


def test_paths_that_are_left_out_are_rows(archive, run, rows):
    (archive / "gone.tif").symlink_to("nowhere.tif")
    result = run(archive)
    assert (result.exit_code, len(result.rows)) == (0, 1)
    row = rows()["gone"]
    assert (row["status"], row["reason"]) == ("skipped", "broken_link")
