"""Results of several folders, joined in one."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from damaged_results import LABELS, edit, first_shard, flip_a_bit, found
from standins import small_slide

from noctile.cli import main
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands import merge as merge_module
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.merge import MergeResult, merge_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

KILLED = """
import os, sys
from pathlib import Path
from noctile.workflows.commands import merge, merge_copy
from noctile.workflows.results.ledger import Ledger

left = int(sys.argv[1])

def counted(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return function(*args, **kwargs)
    return call

merge_copy.copy_file = counted(merge_copy.copy_file)
merge_copy.write_json = counted(merge_copy.write_json)
merge_copy.write_with_checksums = counted(merge_copy.write_with_checksums)
merge.promote = counted(merge.promote)
merge.clean_up = counted(merge.clean_up)
Ledger._append = counted(Ledger._append)
*folders, out = map(Path, sys.argv[2:])
merge.merge_results(folders, out, lambda line: None)
"""
"""Program that merges and dies at the n-th step. Its arguments: n, folders, out."""


def settings(model: Path, **values: object) -> RunSettings:
    about = {"model": str(model), "engine": "serial", "block_px": 480, "device": "cpu"}
    return RunSettings(**{**about, **values})


def segment(slides: Path, out: Path, run_settings: RunSettings, manifest: Path | None = None):
    entries = find_slides([] if manifest else [slides], manifest, None).slides
    return run_slides(entries, run_settings, out, lambda progress, say: None)


@pytest.fixture(scope="session")
def second(results, tmp_path_factory) -> Path:
    """Results of the same model: another slide named a, slide b at another path, and slide c."""
    folder = tmp_path_factory.mktemp("second")
    (folder / "P2").mkdir()
    small_slide(folder / "P2" / "a.tif", seed=7, height=1300, width=1500)
    small_slide(folder / "P2" / "c.tif", seed=8, height=600, width=600)
    shutil.copy(results.parent / "slides" / "b.tif", folder / "P2" / "renamed.tif")
    (folder / "P2" / "bad.tif").write_bytes(b"II*\0 nor is this one")
    lines = ["path,patient_id,stage", *(f"P2/{n}.tif,X{n},1" for n in ("a", "c", "renamed", "bad"))]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    segment(folder, folder / "results", settings(results.parent / "model"), folder / "m.csv")
    return folder / "results"


def merged(out: Path, *folders: Path) -> MergeResult:
    return merge_results(folders, out, lambda line: None)


def rows(out: Path) -> dict[str, dict]:
    return {r["slide_id"]: r for r in pq.read_table(out / "slides.parquet").to_pylist()}


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_every_slide_comes_to_the_new_folder_and_each_content_once(results, second, tmp_path):
    before, out = (files(results), files(second)), tmp_path / "joined"
    result = merged(out, results, second)
    assert (result.copied, result.stood, result.exit_code) == (5, 1, 0)
    assert result.renamed == [f"a of {second} is P2_a"]
    status = {slide_id: row["status"] for slide_id, row in rows(out).items()}
    assert status == {
        **dict.fromkeys(("a", "b", "glass", "P2_a", "c"), "done"),
        **dict.fromkeys(("broken", "bad"), "failed"),
    }
    assert found(out) == []
    assert (files(results), files(second)) == before
    assert files(out / "slides" / "a") == files(results / "slides" / "a")
    shared = results / "slides" / "a" / "summary.json"
    assert not shared.samefile(out / "slides" / "a" / "summary.json")
    assert not (out / ".staging").exists()


def test_rows_are_those_of_the_sources(results, second, tmp_path):
    out = tmp_path / "joined"
    merged(out, results, second)
    first, other, joined = rows(results), rows(second), rows(out)
    expected = first | {"P2_a": other["a"] | {"slide_id": "P2_a"}, "c": other["c"]}
    expected["bad"] = other["bad"]
    expected["b"] = first["b"] | {"patient_id": "Xrenamed", "stage": 1}
    for slide_id, row in joined.items():
        assert row == {"stage": None} | expected[slide_id]
    assert (out / "failures" / "bad.txt").read_text() == (
        second / "failures" / "bad.txt"
    ).read_text()


def test_a_longer_id_stands_in_all_files_of_the_slide(results, second, tmp_path):
    out = tmp_path / "joined"
    merged(out, results, second)
    old, new = second / "slides" / "a", out / "slides" / "P2_a"
    plan = json.loads((new / "plan.json").read_text())
    about = json.loads((new / LABELS / "zarr.json").read_text())["attributes"]["noctile"]
    ids = (plan["slide"]["slide_id"], plan["plan"]["slide_id"], about["slide"]["slide_id"])
    assert {*ids, json.loads((new / "summary.json").read_text())["slide_id"]} == {"P2_a"}
    changed = {name for name, content in files(new).items() if files(old)[name] != content}
    written = {"plan.json", "summary.json", "checksums.json", "preview.jpg"}
    assert changed == {*written, f"{LABELS}/zarr.json"}
    assert all((new / name).stat().st_size == size for name, size in plan["files"].items())


def test_the_same_call_again_changes_nothing(results, second, tmp_path):
    out = tmp_path / "joined"
    merged(out, results, second)
    before = files(out)
    result = merged(out, results, second)
    assert (result.copied, result.stood, result.notes) == (0, 6, [])
    assert files(out) == before


def test_a_run_in_the_joined_folder_finds_every_slide_done(results, second, tmp_path):
    out = tmp_path / "joined"
    merged(out, results, second)
    before = files(out / "slides")
    outcome = segment(second.parent / "P2", out, settings(results.parent / "model"))
    assert {row.slide_id: row.status for row in outcome.rows} == {
        **dict.fromkeys(("P2_a", "b", "c"), "done"),
        "bad": "failed",
    }
    assert files(out / "slides") == before
    assert found(out) == []


def test_other_folders_are_added_to_one_with_results(damaged, second):
    merged(damaged, second)
    assert {"a", "P2_a", "c"} <= rows(damaged).keys()
    assert found(damaged) == []


def test_results_of_other_settings_are_refused_and_the_first_stays(results, tmp_path):
    other, out = settings(results.parent / "model", window="blend"), tmp_path / "joined"
    segment(results.parent / "slides" / "b.tif", tmp_path / "again", other)
    result = merged(out, results, tmp_path / "again")
    assert result.exit_code == 1
    assert len(result.refused) == 1
    assert "stands in" in result.refused[0]
    assert files(out / "slides" / "b") == files(results / "slides" / "b")
    assert found(out) == []


def test_a_damaged_slide_is_left_out_and_another_copy_of_it_taken(damaged, results, tmp_path):
    flip_a_bit(damaged / first_shard(damaged))
    result, out = merged(tmp_path / "joined", damaged), tmp_path / "joined"
    assert result.exit_code == 1
    assert len(result.damaged) == 1
    assert "its checksum differs" in result.damaged[0]
    assert set(rows(out)) == {"b", "broken", "glass"}
    assert found(out) == []
    assert merged(out, damaged, results).exit_code == 1
    assert files(out / "slides" / "a") == files(results / "slides" / "a")
    assert found(out) == []


def test_a_faulty_result_in_the_folder_is_made_whole(damaged, results):
    (damaged / first_shard(damaged)).unlink()
    result = merged(damaged, results)
    assert (result.copied, result.stood) == (1, 2)
    assert found(damaged) == []


def test_a_later_folder_fills_empty_cells_and_contradictions_are_named(damaged, second, tmp_path):
    manifest, out = tmp_path / "m.csv", tmp_path / "joined"
    manifest.write_text("slide,patient_id\nb,P1\n")
    assert CliRunner().invoke(main, ["table", str(damaged), "--manifest", str(manifest)])
    result = merged(out, damaged, second)
    assert result.notes == [f"b: patient_id stays P1; {second} has Xrenamed"]
    assert (rows(out)["b"]["patient_id"], rows(out)["b"]["stage"]) == ("P1", 1)


def test_a_result_replaces_the_row_of_a_failure(damaged, results, tmp_path):
    """The slide could not be read in the first folder, and was done in the second."""
    shutil.rmtree(damaged / "slides" / "b")
    lines = (damaged / "ledger.jsonl").read_text().splitlines()
    kept = [
        line
        for line in map(json.loads, lines)
        if line.get("slide_id") != "b" or line["event"] == "slide"
    ]
    failure = next(line for line in kept if line["event"] == "failed")
    kept.append(failure | {"slide_id": "b", "reason": "unopenable"})
    (damaged / "ledger.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    for order in ((damaged, results), (results, damaged)):
        out = tmp_path / order[0].parent.name / "joined"
        out.parent.mkdir(exist_ok=True)
        merged(out, *order)
        assert {i: row["status"] for i, row in rows(out).items()} == {
            **dict.fromkeys(("a", "b", "glass"), "done"),
            "broken": "failed",
        }
    out = tmp_path / "in steps"
    merged(out, damaged)
    assert rows(out)["b"]["status"] == "failed"
    merged(out, results)
    assert (rows(out)["b"]["status"], rows(out)["b"]["message"]) == ("done", None)


@pytest.mark.parametrize("step", [30, 58, 59, 60, 61, 221, 222, 223, 225, 254, 256])
def test_the_same_call_continues_after_a_kill(results, second, tmp_path, step):
    arguments = [str(step), str(results), str(second), str(tmp_path / "joined")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert killed.returncode == 9
    out, fresh = tmp_path / "joined", tmp_path / "fresh"
    merged(out, results, second)
    merged(fresh, results, second)
    assert rows(out) == rows(fresh)
    assert files(out / "slides") == files(fresh / "slides")
    assert found(out) == []


def test_a_full_disk_ends_the_call_and_the_same_call_continues(results, tmp_path, monkeypatch):
    out, kept = tmp_path / "joined", merge_module.promote
    calls = iter("ab")

    def promote(*args):
        if next(calls) == "b":
            raise StoreError("full")
        kept(*args)

    monkeypatch.setattr(merge_module, "promote", promote)
    with pytest.raises(StoreError):
        merged(out, results)
    assert set(rows(out)) == {"a"}
    monkeypatch.undo()
    assert merged(out, results).copied == 1  # the second one was complete in staging
    assert found(out) == []


def test_a_disk_that_is_too_small_is_named_before_anything_is_copied(
    results, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(UsageError, match="free"):
        merged(tmp_path / "joined", results)
    assert list((tmp_path / "joined" / "slides").iterdir()) == []


def test_folders_that_cannot_be_joined_are_refused(damaged, results, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no results"):
        merged(tmp_path / "joined", tmp_path / "empty")
    with pytest.raises(UsageError, match="only read"):
        merged(damaged, damaged, results)
    with pytest.raises(UsageError, match="only read"):
        merged(damaged / "inside", damaged, results)
    with closing(Lease(damaged, lambda reason: None)):
        with pytest.raises(UsageError, match="a run is at work"):
            merged(tmp_path / "joined", damaged)
        with pytest.raises(UsageError, match="another run"):
            merged(damaged, results)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "slides.csv").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        merged(tmp_path / "foreign", results)
    shutil.move(damaged / "slides", tmp_path / "elsewhere")
    (damaged / "slides").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"):
        merged(tmp_path / "joined", damaged)
    assert not (tmp_path / "joined").exists()


def test_the_command_line_names_totals_and_what_is_left_out(damaged, second, tmp_path):
    edit(damaged / "slides" / "glass" / "summary.json", tiles=5)
    call = ["merge", str(damaged), str(second), "--out", str(tmp_path / "joined")]
    result = CliRunner().invoke(main, [*call, "-v"])
    assert result.exit_code == 1
    assert f"a of {second} copied as P2_a" in result.output
    assert f"glass of {damaged} is left out: summary.json" in result.output
    assert "4 results copied, 1 of them under longer ids, 1 stood already, 1 left out" in (
        result.output
    )
    again = CliRunner().invoke(main, call)
    assert " copied as " not in again.output
    assert "4 done, 2 failed" in again.output
    assert "stood already" in (tmp_path / "joined" / "run.log").read_text()


SQUARE = {
    "type": "Feature",
    "geometry": {
        "type": "Polygon",
        "coordinates": [[[0, 0], [800, 0], [800, 800], [0, 800], [0, 0]]],
    },
    "properties": {"classification": {"name": "fold"}},
}


@pytest.fixture
def reviewed(damaged, second, tmp_path) -> tuple[Path, Path]:
    """Two folders with reviews of slide b, of another slide a in each, and of a failed one."""
    other = tmp_path / "second"
    shutil.copytree(second, other)
    for path, reviewer, b in ((damaged, "ada", "b"), (other, "bob", "renamed")):
        reviews = Reviews(ResultsFolder(path))
        reviews.save("a", reviewer, "accepted", f"a of {reviewer}", "")
        reviews.save(b, reviewer, "rejected", f"b of {reviewer}", "")
        reviews.save(b, "eve", "accepted" if path == damaged else "look_again", "", "")
        reviews.save_regions("a", reviewer, [SQUARE], reviews.of("a").version)
    Reviews(ResultsFolder(other)).save("bad", "bob", "look_again", "scan again", "")
    return damaged, other


def test_reviews_of_both_folders_come_along_under_the_new_ids(reviewed, tmp_path):
    out = tmp_path / "joined"
    result = merged(out, *reviewed)
    reviews = Reviews(ResultsFolder(out))
    assert [row.note for row in reviews.of("a").reviews] == ["a of ada"]
    assert [row.note for row in reviews.of("P2_a").reviews] == ["a of bob"]
    assert [(r.reviewer, r.status) for r in reviews.of("b").reviews] == [
        ("ada", "rejected"),
        ("bob", "rejected"),
        ("eve", "accepted"),
    ]
    assert [row.status for row in reviews.of("bad").reviews] == ["look_again"]
    for slide_id in ("a", "P2_a"):
        assert len(reviews.of(slide_id).regions["features"]) == 1
        assert rows(out)[slide_id]["excluded_area_mm2"] == pytest.approx(
            rows(out)[slide_id]["tissue_area_mm2"] - rows(out)[slide_id]["reviewed_tissue_area_mm2"]
        )
        assert rows(out)[slide_id]["reviewed_result"] == "current"
    assert rows(out)["b"]["review_status"] == "disagreement"
    note = f"b: the review by eve stays; that in {reviewed[1]}, look_again, is in review/history"
    assert [line.startswith(note) for line in result.notes if "eve" in line] == [True]
    assert "look_again" in reviews_history(out)
    assert found(out) == []


def reviews_history(out: Path) -> str:
    return ResultsFolder(out).review_history.read_text()


def test_merging_reviews_again_changes_nothing(reviewed, tmp_path):
    out = tmp_path / "joined"
    merged(out, *reviewed)
    before = [path.read_bytes() for path in (out / "review.csv", *out.glob("review/*.geojson"))]
    merged(out, *reviewed)
    after = [path.read_bytes() for path in (out / "review.csv", *out.glob("review/*.geojson"))]
    assert before == after


def test_an_audit_stays_in_its_folder_and_is_named(damaged, second, tmp_path):
    open_audit(damaged, AuditRequest(points=10))
    result = merged(tmp_path / "joined", damaged, second)
    assert [line.partition(" stays")[0] for line in result.notes if "audit" in line] == [
        f"the audit of {damaged}"
    ]
    assert not (tmp_path / "joined" / "audit").exists()


def test_damaged_reviews_are_left_out_and_named(reviewed, tmp_path):
    (reviewed[0] / "review.csv").write_bytes(b"\xff")
    (reviewed[1] / "review" / "a.geojson").write_text("[1]")
    result = merged(tmp_path / "joined", *reviewed)
    csv_line, regions_line = result.damaged
    assert csv_line.startswith(f"reviews of {reviewed[0]} are left out: ")
    assert regions_line.startswith(f"regions in the review of a of {reviewed[1]} are left out: ")
    reviews = Reviews(ResultsFolder(tmp_path / "joined"))
    assert [row.note for row in reviews.of("P2_a").reviews] == ["a of bob"]
    assert result.copied == 5


def test_damaged_reviews_in_the_folder_stay_and_are_named(reviewed):
    (reviewed[0] / "review.csv").write_bytes(b"\xff")
    result = merged(reviewed[0], reviewed[1])
    assert [line.startswith("reviews of ") for line in result.damaged] == [True]
    assert (reviewed[0] / "review.csv").read_bytes() == b"\xff"
    assert result.copied == 2
