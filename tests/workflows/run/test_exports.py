"""Exports of a run: made as slides finish, made again when missing, never a slide's failure."""

import json
from pathlib import Path

import pytest
from standins import small_slide, threshold_model

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.export.formats import Format
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.jobs import export_slide
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate("ab"):
        small_slide(folder / f"{name}.tif", seed=seed, height=400, width=500)
    return folder


@pytest.fixture(scope="module")
def smooth_model(tmp_path_factory) -> str:
    return str(threshold_model(tmp_path_factory.mktemp("model"), dark_od=0.01))


@pytest.fixture
def night(slides, smooth_model, tmp_path):
    """Function that runs the slides with exports, and returns the result and the lines."""

    def run(**changed) -> tuple[RunResult, list[str]]:
        about = {"model": smooth_model, "engine": "serial", "device": "cpu", "block_px": 480}
        settings = RunSettings(**{**about, "export": "geojson", **changed})
        lines: list[str] = []
        entries = find_slides([slides], None, None).slides
        out = tmp_path / "out"
        result = run_slides(entries, settings, out, lambda progress, line: lines.append(line))
        return result, lines

    return run


def files(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "out" / "exports" / "geojson"
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def test_each_slide_is_exported_as_it_finishes(night, tmp_path):
    result, lines = night()
    assert (result.exit_code, result.not_exported) == (0, ())
    assert list(files(tmp_path)) == ["a.geojson", "b.geojson"]
    told = [line for line in lines if "done," in line or "exported" in line]
    assert [line.split(",")[0] for line in told] == [
        "a: done",
        "a: exported to geojson",
        "b: done",
        "b: exported to geojson",
    ]
    assert "a: exported to geojson" in (tmp_path / "out" / "run.log").read_text()


def test_the_same_run_makes_what_is_missing_and_nothing_else(night, tmp_path):
    night()
    before = files(tmp_path)
    (tmp_path / "out" / "exports" / "geojson" / "b.geojson").unlink()
    _, lines = night()
    assert [line for line in lines if "exported" in line] == ["b: exported to geojson"]
    assert files(tmp_path) == before


def test_slides_that_were_done_without_exports_get_them(night, tmp_path):
    night(export=())
    assert not (tmp_path / "out" / "exports").exists()
    night()
    assert list(files(tmp_path)) == ["a.geojson", "b.geojson"]


def test_a_result_that_is_made_again_is_exported_again(night, tmp_path):
    night()
    _, lines = night(block_px=800, redo=True)
    assert [line for line in lines if "exported" in line] == [
        "a: exported to geojson",
        "b: exported to geojson",
    ]


def test_an_export_that_fails_never_fails_its_slide(night, tmp_path, monkeypatch):
    def fail(self: Format, source, path: Path, options) -> None:
        raise StoreError("no room for polygons")

    monkeypatch.setattr(Format, "write", fail)
    result, _ = night()
    assert (result.exit_code, result.count("done")) == (0, 2)
    assert result.not_exported[0] == "a: not exported: geojson: no room for polygons"
    assert "not exported: geojson: no room" in (tmp_path / "out" / "run.log").read_text()


def test_a_defect_of_a_format_never_fails_its_slide(night, tmp_path, monkeypatch):
    def fail(task) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(export_slide, "export_slide", fail)
    result, _ = night()
    assert (result.exit_code, result.count("done"), len(result.not_exported)) == (0, 2, 2)
    record = json.loads(next((tmp_path / "out" / "runs").iterdir()).read_text())
    assert record["settings"]["export"] == ["geojson"]


def test_a_file_that_a_user_changed_stays_and_is_named(night, tmp_path):
    night()
    path = tmp_path / "out" / "exports" / "geojson" / "a.geojson"
    path.write_text("mine")
    result, _ = night()
    assert "was changed since, and is not replaced" in result.not_exported[0]
    assert path.read_text() == "mine"


def test_exports_change_no_key_so_results_stay(night):
    night(export=())
    _, lines = night()
    assert "a: done (already)" in [line.split(",")[0] for line in lines]


def test_a_folder_with_other_files_is_refused_before_any_work(night, tmp_path):
    folder = tmp_path / "out" / "exports" / "geojson"
    night(export=())
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt"):
        night()


def test_formats_may_be_text_or_a_list_and_unknown_ones_get_the_nearest():
    assert RunSettings(export="geojson, geojson").export == ("geojson",)
    assert RunSettings(export=["geojson"]).export == ("geojson",)
    with pytest.raises(ValueError, match="did you mean 'geojson'"):
        RunSettings(export="geojsn")
