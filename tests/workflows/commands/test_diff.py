"""Comparison of two folders of results."""

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from damaged_results import LABELS, first_shard, flip_a_bit, found
from label_results import write_result
from standins import small_slide, threshold_model

from noctile.cli import main
from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.diff import DiffResult, diff_results
from noctile.workflows.commands.opened import open_results
from noctile.workflows.commands.status import read_status
from noctile.workflows.results.lease import Lease
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

KILLED = """
import os, sys
from pathlib import Path
from noctile.workflows.commands import diff, diff_slide

left = int(sys.argv[1])

def counted(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return function(*args, **kwargs)
    return call

diff_slide.promote = counted(diff_slide.promote)
diff_slide.DiffSide = counted(diff_slide.DiffSide)
diff.write_diff_table = counted(diff.write_diff_table)
a, b, out = map(Path, sys.argv[2:])
diff.diff_results(a, b, out, None, 1, lambda line: None)
"""
"""Program that compares and dies at the n-th step. Its arguments: n, a, b, out."""


@pytest.fixture(scope="session")
def other(results, tmp_path_factory) -> Path:
    """Results of the same slides, of which b has another name, with a model that finds less."""
    folder = tmp_path_factory.mktemp("other")
    slides = folder / "slides"
    slides.mkdir()
    for name, renamed in (("a", "a"), ("b", "renamed"), ("broken", "broken")):
        shutil.copy(results.parent / "slides" / f"{name}.tif", slides / f"{renamed}.tif")
    small_slide(slides / "new.tif", seed=9, height=600, width=600)
    settings = RunSettings(
        model=str(threshold_model(folder / "model", 0.36)),
        engine="serial",
        block_px=480,
        device="cpu",
        overlap_px=64,
    )
    lines = ["path,patient_id", *(f"slides/{p.name},P1" for p in sorted(slides.iterdir()))]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    entries = find_slides([], folder / "m.csv", None).slides
    run_slides(entries, settings, folder / "results", lambda progress, say: None)
    return folder / "results"


def compare(a: Path, b: Path, out: Path, match: Path | None = None) -> DiffResult:
    return diff_results(a, b, out, match, 1, lambda line: None)


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="session")
def diff(results, other, tmp_path_factory) -> tuple[Path, DiffResult]:
    out = tmp_path_factory.mktemp("diff") / "out"
    before = files(results), files(other)
    made = compare(results, other, out)
    assert (files(results), files(other)) == before
    return out, made


def test_every_slide_of_both_folders_has_a_row(diff):
    out, result = diff
    rows = {row["slide_id"]: row for row in pq.read_table(out / "diff.parquet").to_pylist()}
    assert {i: (r["status"], r["matched_by"]) for i, r in rows.items()} == {
        "a": ("compared", "content"),
        "b": ("compared", "content"),
        "broken": ("not_done", "slide_id"),
        "glass": ("only_a", None),
        "new": ("only_b", None),
    }
    assert result.counts == {"compared": 2, "not_done": 1, "only_a": 1, "only_b": 1}
    assert (result.exit_code, result.made) == (0, 2)
    assert rows["b"]["slide_id_b"] == "renamed"
    assert rows["b"]["patient_id"] == "P1"
    assert "unopenable" in rows["broken"]["message"]


def test_areas_are_those_of_both_tables(diff, results, other):
    rows = {row["slide_id"]: row for row in pq.read_table(diff[0] / "diff.parquet").to_pylist()}
    for id_a, id_b in (("a", "a"), ("b", "renamed")):
        ours, theirs = open_results(results)[id_a], open_results(other)[id_b]
        row = rows[id_a]
        assert row["tumor_area_a_mm2"] == ours.summary["tumor_area_mm2"]
        assert row["tumor_area_b_mm2"] == theirs.summary["tumor_area_mm2"]
        assert row["class_stroma_area_b_mm2"] == theirs.area_mm2["stroma"]
        a, b = (np.asarray(one.mask()) == 1 for one in (ours, theirs))
        assert row["tumor_dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-6)


def test_limits_follow_from_the_table(diff):
    out, result = diff
    rows = [r for r in pq.read_table(out / "diff.parquet").to_pylist() if r["status"] == "compared"]
    values = np.array([r["tumor_area_b_mm2"] - r["tumor_area_a_mm2"] for r in rows])
    assert result.limits.bias.value == pytest.approx(values.mean())
    assert result.limits.upper.value == pytest.approx(values.mean() + 1.96 * values.std(ddof=1))


def test_change_maps_are_ordinary_results(diff):
    out, _ = diff
    assert found(out) == []
    assert list(open_results(out)) == ["a", "b"]
    table = open_results(out).slides
    assert table["status"].to_dict() == {
        **dict.fromkeys(("a", "b"), "done"),
        **dict.fromkeys(("broken", "glass", "new"), "skipped"),
    }
    assert "class_only_in_a_area_mm2" in table
    assert read_status(out).waiting == 0


def test_origin_of_both_sides_is_kept(diff):
    record = json.loads((diff[0] / "diff.json").read_text())
    differing = {row["name"]: (row["a"], row["b"]) for row in record["differing"]["settings"]}
    assert differing["overlap_px"][1] == [64]
    assert [model["name"] for model in record["a"]["models"]] == ["dark"]
    assert record["a"]["models"] != record["b"]["models"]
    assert len(record["b"]["runs"]) == 1
    page = (diff[0] / "index.html").read_text()
    assert record["b"]["runs"][0] in page
    assert "overlap_px" in page


def test_the_same_folder_twice_is_no_change(results, tmp_path):
    result = compare(results, shutil.copytree(results, tmp_path / "copy"), tmp_path / "d")
    rows = [row for row in result.rows if row["status"] == "compared"]
    assert [row["tumor_dice"] for row in rows] == [1.0, 1.0, None]  # glass has no tumor
    assert {row["tumor_area_difference_mm2"] for row in rows} == {0}
    assert (result.limits.lower.value, result.limits.upper.value) == (0, 0)


def test_the_same_command_continues_after_a_kill(results, other, diff, tmp_path):
    """Killed while the second slide is compared, then before the tables are written."""
    out = tmp_path / "d"
    for n in (5, 4):
        program = [sys.executable, "-c", KILLED, str(n), *map(str, (results, other, out))]
        assert subprocess.run(program, check=False).returncode == 9
    result = compare(results, other, out)
    assert result.made == 0
    assert (out / "diff.csv").read_bytes() == (diff[0] / "diff.csv").read_bytes()
    assert found(out) == []
    for slide_id in "ab":
        mask, again = (files(path / "slides" / slide_id / LABELS) for path in (out, diff[0]))
        assert {k: v for k, v in mask.items() if "zarr.json" not in k} == {
            k: v for k, v in again.items() if "zarr.json" not in k
        }


@pytest.mark.parametrize("damage", ["short", "flipped", "no summary"])
def test_a_result_that_cannot_be_read_is_named_and_the_others_go_on(
    damaged, other, tmp_path, damage
):
    shard = damaged / first_shard(damaged)
    if damage == "short":
        shard.write_bytes(shard.read_bytes()[:-9])
    elif damage == "flipped":
        flip_a_bit(shard, seed=3)
    else:
        (damaged / "slides" / "a" / "summary.json").write_text("{")
    result = compare(damaged, other, tmp_path / "d")
    status = {row["slide_id"]: row["status"] for row in result.rows}
    assert (status["a"], status["b"], result.exit_code) == ("unreadable", "compared", 1)
    message = next(row["message"] for row in result.rows if row["slide_id"] == "a")
    assert str(damaged / "slides" / "a") in message
    assert found(tmp_path / "d") == []


def test_a_manifest_matches_slides(results, other, tmp_path):
    (tmp_path / "m.csv").write_text("a,b\na,renamed\n")
    result = compare(results, other, tmp_path / "d", tmp_path / "m.csv")
    row = next(row for row in result.rows if row["slide_id"] == "a")
    assert (row["slide_id_b"], row["matched_by"], row["alignment"]) == (
        "renamed",
        "manifest",
        "physical",
    )


def test_two_new_slides_of_one_name_have_two_ids(tmp_path):
    labels = np.ones((90, 90), np.uint8)
    for folder, slide_id, content in (("a", "x", "1"), ("a", "y", "2"), ("b", "x", "2")):
        write_result(tmp_path / folder, labels, slide_id, content=content)
    write_result(tmp_path / "b", labels, "y", content="3")
    write_result(tmp_path / "b", labels, "z", content="1")
    rows = compare(tmp_path / "a", tmp_path / "b", tmp_path / "d").rows
    assert {r["slide_id"]: (r["status"], r["slide_id_a"], r["slide_id_b"]) for r in rows} == {
        "x": ("compared", "x", "z"),
        "y": ("compared", "y", "x"),
        "y_b": ("only_b", None, "y"),
    }


def test_other_folders_are_never_overwritten(results, other, diff, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    for out, message in (
        (foreign, "no comparison has written"),
        (foreign / "notes.txt", "cannot be used|no comparison has written"),
        (results, "lie in each other"),
        (results / "inside", "lie in each other"),
        (results.parent, "lie in each other"),
    ):
        with pytest.raises(UsageError, match=message):
            compare(results, other, out)
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]
    with pytest.raises(UsageError, match="comparison of other folders"):
        compare(other, results, diff[0])


def test_slides_that_are_no_longer_compared_stop_the_call(damaged, other, tmp_path):
    compare(damaged, other, tmp_path / "d")
    shutil.rmtree(damaged / "slides" / "a")
    with pytest.raises(UsageError, match=r"does not compare \(a\)"):
        compare(damaged, other, tmp_path / "d")


def test_a_result_that_was_made_again_is_compared_again(tmp_path):
    write_result(tmp_path / "a", np.ones((90, 90), np.uint8))
    write_result(tmp_path / "b", np.ones((90, 90), np.uint8))
    assert compare(tmp_path / "a", tmp_path / "b", tmp_path / "d").rows[0]["tumor_dice"] == 1.0
    shutil.rmtree(tmp_path / "b" / "slides" / "s")
    write_result(tmp_path / "b", np.full((90, 90), 2, np.uint8))
    result = compare(tmp_path / "a", tmp_path / "b", tmp_path / "d")
    assert (result.rows[0]["tumor_dice"], result.made, result.limits) == (0.0, 1, None)
    assert found(tmp_path / "d") == []


def test_command_prints_the_largest_changes_first(results, other, tmp_path):
    out = tmp_path / "d"
    call = ["diff", str(results), str(other), "--out", str(out), "--workers", "1"]
    shown = CliRunner().invoke(main, call)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert any(line.startswith("broken: not_done: failed in a (unopenable") for line in lines)
    first = next(i for i, line in enumerate(lines) if "Dice" in line)
    assert lines[first].startswith("a: tumor -")
    assert lines[-1] == f"{out}/index.html: 2 compared, 1 not_done, 1 only_a, 1 only_b"
    document = json.loads(CliRunner().invoke(main, [*call, "--json"]).stdout)
    assert document["counts"]["compared"] == 2
    assert document["tumor_area_mm2"]["n"] == 2
    assert {slide["slide_id"] for slide in document["slides"]} == {
        "a",
        "b",
        "broken",
        "glass",
        "new",
    }


def test_command_refuses_a_foreign_folder(results, other, tmp_path):
    (tmp_path / "x").write_text("mine")
    call = ["diff", str(results), str(other), "--out", str(tmp_path)]
    shown = CliRunner().invoke(main, call)
    assert shown.exit_code == 2
    assert "choose a new or an empty folder" in shown.output


def test_command_warns_of_a_run_at_work(other, damaged, tmp_path):
    with closing(Lease(damaged, lambda reason: None)):
        call = ["diff", str(damaged), str(other), "--out", str(tmp_path / "d"), "--workers", "1"]
        shown = CliRunner().invoke(main, call)
    assert f"a run is at work in {damaged}" in shown.stderr
    assert shown.exit_code == 0
