"""``noctile regroup``: results with other classes in another folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from damaged_results import LABELS, flip_a_bit, found

import noctile
from noctile.cli import main
from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.commands import regroup as module
from noctile.workflows.commands.regroup import RegroupResult, regroup_results
from noctile.workflows.engines.base import OUTPUT_LOST, Failure, Outcome
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews

GROUPS = """rest = "keep"

[[classes]]
name = "soft"
from = ["fat", "stroma"]
"""

KILLED = """
import os, sys
from pathlib import Path
from noctile.workflows.commands import regroup, regroup_slide
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

for name in ("_laid_out", "measure_blocks", "write_json", "write_with_checksums", "promote"):
    setattr(regroup_slide, name, counted(getattr(regroup_slide, name)))
regroup.clean_up = counted(regroup.clean_up)
regroup.write_json = counted(regroup.write_json)
Ledger._append = counted(Ledger._append)
folder, groups, out = map(Path, sys.argv[2:])
regroup.regroup_results(folder, groups, out, 1, lambda line: None)
"""
"""Program that regroups and dies at the n-th step. Its arguments: n, results, groups file, out."""

REGION = {
    "type": "Feature",
    "geometry": {
        "type": "Polygon",
        "coordinates": [[[0, 0], [800, 0], [800, 800], [0, 800], [0, 0]]],
    },
    "properties": {"classification": {"name": "fold"}},
}


@pytest.fixture
def groups(tmp_path) -> Path:
    (tmp_path / "groups.toml").write_text(GROUPS)
    return tmp_path / "groups.toml"


def regroup(results: Path, groups: Path, out: Path, workers: int = 1) -> RegroupResult:
    return regroup_results(results, groups, out, workers, lambda line: None)


def rows(out: Path) -> dict[str, dict]:
    return {r["slide_id"]: r for r in pq.read_table(out / "slides.parquet").to_pylist()}


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["regroup", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.parametrize("workers", [1, 2])
def test_every_slide_comes_with_its_new_classes(four_classes, groups, tmp_path, workers):
    before, out = files(four_classes), tmp_path / "out"
    result = regroup(four_classes, groups, out, workers)
    assert (result.made, result.stood, result.damaged, result.exit_code) == (3, 0, {}, 0)
    assert result.counts == {"done": 3, "failed": 1}
    assert found(out) == []
    assert files(four_classes) == before
    assert not (out / ".staging").exists()
    areas = {slide_id: slide.area_mm2 for slide_id, slide in noctile.open(four_classes).items()}
    soft = {slide_id: round(mm2["fat"] + mm2["stroma"], 6) for slide_id, mm2 in areas.items()}
    assert dict(noctile.open(out).slides["class_soft_area_mm2"].dropna()) == soft


def test_cells_and_failed_slides_come_along(four_classes, groups, tmp_path):
    out = tmp_path / "out"
    regroup(four_classes, groups, out)
    before, after = rows(four_classes), rows(out)
    assert after["broken"] == {name: before["broken"].get(name) for name in after["broken"]}
    report = Path("failures") / "broken.txt"
    assert (out / report).read_text() == (four_classes / report).read_text()
    assert {row["patient_id"] for row in after.values()} == {"Pa", "Pb", "Pglass", "Pbroken"}
    assert [after[i]["path"] for i in "ab"] == [before[i]["path"] for i in "ab"]
    assert {after[i]["model"] for i in "ab"} == {"dark (classes merged)"}


def test_the_call_has_a_record_of_its_own(four_classes, groups, tmp_path):
    out = tmp_path / "out"
    regroup(four_classes, groups, out)
    record = json.loads((out / "runs" / f"{rows(out)['a']['run']}.json").read_text())
    assert (record["command"], record["groups"]) == ("regroup", GROUPS)
    assert record["source"] == str(four_classes)
    assert record["slides"] == {"done": 3, "failed": 1, "skipped": 0}
    assert record["classes"] == ["soft", "dcis", "tumor"]
    assert record["end"]
    old = rows(four_classes)["broken"]["run"]
    assert (out / "runs" / f"{old}.json").exists()


def test_the_same_call_again_changes_no_result(four_classes, groups, tmp_path):
    out = tmp_path / "out"
    regroup(four_classes, groups, out)
    before, table = files(out / "slides"), rows(out)
    result = regroup(four_classes, groups, out)
    assert (result.made, result.stood) == (0, 3)
    assert files(out / "slides") == before
    assert rows(out) == table


def test_a_slide_that_was_done_again_is_regrouped_again(four_classes, groups, tmp_path):
    out, copy = tmp_path / "out", shutil.copytree(four_classes, tmp_path / "copy")
    regroup(copy, groups, out)
    checksums = copy / "slides" / "a" / "checksums.json"
    checksums.write_text(checksums.read_text().replace("\n", "\n\n", 1))
    result = regroup(copy, groups, out)
    assert (result.made, result.stood) == (1, 2)
    assert found(out) == []


@pytest.mark.parametrize("step", [2, 9, 16])
def test_after_a_kill_the_same_call_completes_it(four_classes, groups, tmp_path, step):
    out = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, step, four_classes, groups, out]
    killed = subprocess.run([*map(str, words)], check=False, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    result = regroup(four_classes, groups, out)
    assert result.made + result.stood == 3
    assert found(out) == []
    assert not (out / ".staging").exists()


def test_a_damaged_slide_is_named_and_the_others_go_on(four_classes, groups, tmp_path):
    copy = shutil.copytree(four_classes, tmp_path / "copy")
    flip_a_bit(next((copy / "slides" / "a" / LABELS / "0").glob("c/*/*")))
    (copy / "slides" / "b" / "summary.json").write_text("{")
    code, text = command(copy, "--classes", groups, "--out", tmp_path / "out", "--workers", 1)
    assert code == 1
    assert "a is left out: its result is damaged: " in text
    assert "b is left out: " in text
    after = rows(tmp_path / "out")
    assert {name: row["status"] for name, row in after.items()} == {
        **dict.fromkeys(("a", "b", "broken"), "failed"),
        "glass": "done",
    }
    assert after["a"]["reason"] == "store"
    assert found(tmp_path / "out") == []
    shutil.copytree(four_classes / "slides", copy / "slides", dirs_exist_ok=True)
    assert regroup(copy, groups, tmp_path / "out").counts == {"done": 3, "failed": 1}


class TestRefusals:
    def test_results_of_other_groups(self, four_classes, groups, tmp_path):
        regroup(four_classes, groups, tmp_path / "out")
        before = files(tmp_path / "out")
        groups.write_text(GROUPS.replace("soft", "weak"))
        code, text = command(four_classes, "--classes", groups, "--out", tmp_path / "out")
        assert code == 2
        assert "holds results of other groups" in text
        assert files(tmp_path / "out") == before

    def test_other_results(self, four_classes, groups, tmp_path):
        out = shutil.copytree(four_classes, tmp_path / "copy")
        before = files(out)
        with pytest.raises(UsageError, match="holds other results"):
            regroup(four_classes, groups, out)
        assert files(out) == before

    def test_slides_of_another_folder(self, four_classes, groups, tmp_path):
        copy = shutil.copytree(four_classes, tmp_path / "copy")
        shutil.rmtree(copy / "slides" / "b")
        (copy / "ledger.jsonl").unlink()
        regroup(four_classes, groups, tmp_path / "out")
        with pytest.raises(UsageError, match="does not have, such as b"):
            regroup(copy, groups, tmp_path / "out")

    def test_files_of_the_user(self, four_classes, groups, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "slides.csv").write_text("mine")
        assert command(four_classes, "--classes", groups, "--out", tmp_path / "out")[0] == 2
        assert files(tmp_path / "out") == {"slides.csv": b"mine"}

    def test_the_source_itself(self, four_classes, groups):
        with pytest.raises(UsageError, match="only read"):
            regroup(four_classes, groups, four_classes / "inside")
        assert not (four_classes / "inside").exists()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (GROUPS.replace("stroma", "stromma"), "did you mean 'stroma'"),
            (GROUPS.replace("keep", "refuse"), "names no new class for dcis, tumor"),
            ("[tumor]\nthreshold = 0.5\n", "above is missing"),
        ],
    )
    def test_groups_that_do_not_fit_before_anything_is_written(
        self, four_classes, groups, tmp_path, text, message
    ):
        groups.write_text(text)
        code, output = command(four_classes, "--classes", groups, "--out", tmp_path / "out")
        assert code == 2
        assert message in output
        assert not (tmp_path / "out").exists()

    def test_a_groups_file_that_is_not_there(self, four_classes, tmp_path):
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            regroup(four_classes, tmp_path / "none.toml", tmp_path / "out")

    def test_a_disk_that_is_too_small(self, four_classes, groups, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "size_of", lambda folder: 2**62)
        with pytest.raises(UsageError, match="GB free; free space"):
            regroup(four_classes, groups, tmp_path / "out")


class TestReviews:
    """Reviews of the source, which come along and tell that their result was another one."""

    @pytest.fixture
    def reviewed(self, four_classes, tmp_path) -> Path:
        """Four slides: one with regions, one with a row of an unknown result, one failed."""
        copy = Path(shutil.copytree(four_classes, tmp_path / "reviewed"))
        reviews = Reviews(ResultsFolder(copy))
        reviews.save_regions("a", "ada", [REGION], "")
        reviews.save("a", "ada", "accepted", "good", reviews.of("a").version)
        reviews.save("broken", "ada", "look_again", "scan again", "")
        with (copy / "review.csv").open("a") as file:
            file.write("b,bob,rejected,by hand,,\n")
        return copy

    def test_they_come_along_and_are_of_an_earlier_result(self, reviewed, groups, tmp_path):
        out, before = tmp_path / "out", files(reviewed)
        assert regroup(reviewed, groups, out).exit_code == 0
        assert files(reviewed) == before
        theirs, ours = (Reviews(ResultsFolder(path)) for path in (reviewed, out))
        assert ours.of("a") == theirs.of("a")
        assert [row.note for row in ours.of("broken").reviews] == ["scan again"]
        found_rows = rows(out)
        shown = {i: (r["review_status"], r["reviewed_result"]) for i, r in found_rows.items()}
        assert shown["a"] == ("accepted", "earlier")
        assert shown["b"] == ("rejected", "earlier")
        assert shown["broken"] == ("look_again", None)
        a = found_rows["a"]
        assert (
            0
            < a["excluded_area_mm2"]
            == pytest.approx(a["tissue_area_mm2"] - a["reviewed_tissue_area_mm2"])
        )
        assert found(out) == []

    def test_the_same_call_again_keeps_what_was_said_since(self, reviewed, groups, tmp_path):
        out = tmp_path / "out"
        regroup(reviewed, groups, out)
        ours = Reviews(ResultsFolder(out))
        ours.save_regions("a", "ada", [], ours.of("a").version)
        ours.save("a", "ada", "rejected", "too sensitive", ours.of("a").version)
        Reviews(ResultsFolder(reviewed)).save("glass", "eve", "accepted", "empty", "")
        said = ours.of("a")
        result = regroup(reviewed, groups, out)
        assert ours.of("a") == said
        assert [note.partition("; that")[0] for note in result.reviews.notes] == [
            "a: the review by ada stays"
        ]
        after = {i: (r["review_status"], r["reviewed_result"]) for i, r in rows(out).items()}
        assert after["a"] == ("rejected", "current")
        assert after["glass"] == ("accepted", "earlier")
        assert found(out) == []

    def test_reviews_that_cannot_be_read_are_named(self, reviewed, groups, tmp_path):
        (reviewed / "review.csv").write_bytes(b"\xff")
        words = (reviewed, "--classes", groups, "--out", tmp_path / "out", "--workers", 1)
        code, text = command(*words)
        assert code == 1
        assert f"reviews of {reviewed} are left out: " in text
        assert len(noctile.open(tmp_path / "out")) == 3


def test_a_full_disk_ends_the_call_with_true_tables(four_classes, groups, tmp_path, monkeypatch):
    class FullDisk:
        def run(self, do, next_job):
            yield Outcome(next_job().key, None, Failure(OUTPUT_LOST, "the disk is full"), 0.1)

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "_engine", lambda workers: FullDisk())
    with pytest.raises(StoreError, match="the disk is full"):
        regroup(four_classes, groups, tmp_path / "out")
    monkeypatch.undo()
    assert found(tmp_path / "out") == []
    assert regroup(four_classes, groups, tmp_path / "out").made == 3


def test_json(four_classes, groups, tmp_path):
    words = (four_classes, "--classes", groups, "--out", tmp_path / "out", "--workers", 1, "--json")
    result = CliRunner().invoke(main, ["regroup", *map(str, words)])
    document = json.loads(result.stdout)
    assert (document["made"], document["stood"], document["left_out"]) == (3, 0, [])
    assert document["counts"] == {"done": 3, "failed": 1}


def test_a_folder_without_a_finished_slide_gives_its_rows(four_classes, groups, tmp_path):
    copy = shutil.copytree(four_classes, tmp_path / "copy")
    shutil.rmtree(copy / "slides")
    result = regroup(copy, groups, tmp_path / "out")
    assert (result.made, result.counts["failed"]) == (0, 1)
    assert rows(tmp_path / "out").keys() == {"a", "b", "glass", "broken"}
    assert found(tmp_path / "out") == []
