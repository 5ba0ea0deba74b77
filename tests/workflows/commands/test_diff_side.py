"""One folder of results of a comparison."""

import shutil

import pytest
from damaged_results import edit

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.diff_side import ComparedFolder, differing


def test_every_slide_is_known_with_its_state(results):
    side = ComparedFolder(results)
    assert {i: k.status for i, k in side.slides.items()} == {
        **dict.fromkeys(("a", "b", "glass"), "done"),
        "broken": "failed",
    }
    assert side.slides["a"].fingerprint
    assert "unopenable" in side.slides["broken"].message


def test_damaged_results_are_told_from_failed_ones(damaged):
    (damaged / "slides" / "a" / "summary.json").write_text("{")
    slide = ComparedFolder(damaged).slides["a"]
    assert (slide.done, slide.status) == (False, "damaged")
    assert "summary.json" in slide.message


def test_origin_of_results(results):
    about = ComparedFolder(results).provenance(["a", "b"])
    assert [model["name"] for model in about["models"]] == ["dark"]
    assert about["runs"] == [path.stem for path in (results / "runs").glob("*.json")]
    assert about["settings"]["block_px"] == [480]
    assert set(about["versions"]) >= {"noctile", "numpy"}


def test_differing_settings_are_listed(damaged, results):
    edit(next((damaged / "runs").glob("*.json")), settings={"overlap_px": 64, "extra": [1]})
    a, b = (ComparedFolder(path).provenance(["a"]) for path in (results, damaged))
    found = {row["name"]: (row["a"], row["b"]) for row in differing(a, b, "settings")}
    assert found["extra"] == ([], [[1]])
    assert "overlap_px" in found
    assert differing(a, b, "versions") == []


def test_a_damaged_record_of_a_run_is_left_out(damaged):
    next((damaged / "runs").glob("*.json")).write_text("[1]")
    assert ComparedFolder(damaged).provenance(["a"])["settings"] == {}


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        ComparedFolder(tmp_path)


def test_links_are_not_followed(damaged, tmp_path):
    shutil.move(damaged / "slides", tmp_path / "elsewhere")
    (damaged / "slides").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"):
        ComparedFolder(damaged)
