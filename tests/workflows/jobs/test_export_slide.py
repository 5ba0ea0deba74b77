"""Export of one slide."""

import json
import shutil
from pathlib import Path

import pytest
from standins import small_slide, threshold_model

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.formats import FORMATS, Format
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.jobs.export_slide import ExportTask, export_slide
from noctile.workflows.results.exports import ExportFolder
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Results of one slide."""
    folder = tmp_path_factory.mktemp("run")
    small_slide(folder / "a.tif", seed=0, height=900, width=1100)
    model = str(threshold_model(folder / "model", dark_od=0.01))
    settings = RunSettings(model=model, engine="serial", device="cpu", block_px=480)
    entries = find_slides([folder / "a.tif"], None, None).slides
    run_slides(entries, settings, folder / "results", lambda progress, text: None)
    return folder / "results"


@pytest.fixture
def results(finished, tmp_path) -> ResultsFolder:
    return ResultsFolder(Path(shutil.copytree(finished, tmp_path / "results")))


def task_of(results: ResultsFolder, **changed) -> ExportTask:
    folder = results.exports / "geojson"
    ExportFolder(folder).open()
    return ExportTask(results, "a", "geojson", "a", folder, **changed)


def test_a_slide_is_exported_and_current_until_its_result_changes(results):
    task = task_of(results)
    assert task.current is None
    path = export_slide(task)
    assert path == results.exports / "geojson" / "a.geojson"
    assert json.loads(path.read_text())["noctile"]["slide_id"] == "a"
    assert task.current == path
    assert task_of(results, options={"classes": ("tumor",)}).current is None
    summary = results.slide("a").summary
    summary.write_text(summary.read_text() + " ")
    assert task.current is None


def test_a_new_version_of_a_format_is_exported_again(results, monkeypatch):
    task = task_of(results)
    export_slide(task)
    newer = Format(".geojson", FORMATS["geojson"].writer, version=99)
    monkeypatch.setitem(FORMATS, "geojson", newer)
    assert task.current is None


def test_a_damaged_result_is_not_exported(results):
    results.slide("a").preview.unlink()
    with pytest.raises(StoreError, match=r"the result of a is damaged: preview\.jpg is missing"):
        export_slide(task_of(results))
    assert not (results.exports / "geojson" / "a.geojson").exists()


def test_a_result_that_is_replaced_meanwhile_is_not_exported(results, monkeypatch):
    task, summary = task_of(results), results.slide("a").summary

    def write(self: Format, source, path: Path, options) -> None:
        path.write_text("old pixels")
        summary.write_text(summary.read_text() + " ")

    monkeypatch.setattr(Format, "write", write)
    with pytest.raises(StoreError, match="a was replaced while it was exported"):
        export_slide(task)
    assert not (results.exports / "geojson" / "a.geojson").exists()
