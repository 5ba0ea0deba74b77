"""One slide with other classes: labels, pyramid, figures and provenance."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from damaged_results import LABELS, edit, flip_a_bit

import noctile
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.regroup import parse_groups
from noctile.workflows.commands import regroup_slide as module
from noctile.workflows.commands.regroup_slide import (
    GroupsFile,
    RegroupJob,
    is_current,
    regroup_slide,
)
from noctile.workflows.commands.verify_slide import verify_slide
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder

MERGED = """
[[classes]]
name = "other"
from = ["fat", "stroma"]

[[classes]]
name = "tumor"
from = ["dcis", "tumor"]
"""
BY_MAP = '[tumor]\nthreshold = 0.35\nabove = "tumor"\nbelow = "stroma"\n'
BENIGN = 'rest = "keep"\n[[classes]]\nname = "benign"\nfrom = ["dcis"]\nrole = "tissue"\n'


def job(results: Path, out: Path, text: str = MERGED, slide_id: str = "a") -> RegroupJob:
    source, target = ResultsFolder(results), ResultsFolder(out)
    file = GroupsFile(text, parse_groups(text, "groups.toml"))
    folders = source.slide(slide_id), target.staged(slide_id), target.slide(slide_id)
    return RegroupJob(slide_id, *folders, file, "20261129T013000.123Z", 2)


def labels_of(results: Path, slide_id: str = "a", level: int = 0) -> np.ndarray:
    return MaskStore.open(results / "slides" / slide_id / "mask.ome.zarr").read_level(level)


def summary_of(results: Path, slide_id: str = "a") -> dict:
    return read_required_json(results / "slides" / slide_id / "summary.json")


def label_files(results: Path, slide_id: str) -> dict[str, bytes]:
    folder = results / "slides" / slide_id / LABELS
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.glob("*/c/*/*")}


@pytest.fixture
def copy(four_classes, tmp_path) -> Path:
    """A copy of the results, to be damaged by the test."""
    return Path(shutil.copytree(four_classes, tmp_path / "copy"))


def test_merged_labels_are_a_table_of_the_stored_ones(four_classes, tmp_path):
    assert regroup_slide(job(four_classes, tmp_path)) == ""
    stored, table = labels_of(four_classes), np.zeros(256, np.uint8)
    table[[5, 2, 20, 1]] = 2, 2, 1, 1
    assert set(np.unique(stored)) == {0, 1, 2, 5, 20}
    assert np.array_equal(labels_of(tmp_path), table[stored])


@pytest.mark.parametrize("slide_id", ["a", "b", "glass"])
def test_files_and_figures_are_those_of_a_run_with_these_classes(four_classes, tmp_path, slide_id):
    """The second model of the fixture has the merged classes."""
    assert regroup_slide(job(four_classes, tmp_path, slide_id=slide_id)) == ""
    by_run = four_classes.parent / "merged"
    assert label_files(tmp_path, slide_id) == label_files(by_run, slide_id)
    figures, expected = summary_of(tmp_path, slide_id), summary_of(by_run, slide_id)
    names = ["tissue_area_mm2", "tumor_area_mm2", "tumor_fraction_of_tissue", "class_area_mm2"]
    names += ["tumor_foci", "largest_focus_mm2", "measures", "tiles", "qc_flags", "mpp", "path"]
    for name in names:
        assert figures[name] == expected[name], name
    tiles, tiles_of_run = (
        pq.read_table(folder / "slides" / slide_id / "tiles.parquet").drop(["mean_confidence"])
        for folder in (tmp_path, by_run)
    )
    assert tiles.equals(tiles_of_run)


@pytest.mark.parametrize("text", [MERGED, BY_MAP, BENIGN])
def test_the_result_is_intact_and_opens(four_classes, tmp_path, text):
    regroup_slide(job(four_classes, tmp_path, text))
    assert verify_slide(ResultsFolder(tmp_path).slide("a"), None).faults == ()
    slide = noctile.open(tmp_path)["a"]
    assert {info.name for info in slide.classes.values()} == set(slide.area_mm2)
    assert slide.preview.width > 0
    assert not list((tmp_path / ".staging").iterdir())


def test_a_threshold_moves_whole_cells_of_the_tumor_map(four_classes, tmp_path):
    regroup_slide(job(four_classes, tmp_path, BY_MAP))
    stored, new = labels_of(four_classes), labels_of(tmp_path)
    tumor_map = np.asarray(noctile.open(tmp_path)["a"].heat())[0]
    height, width = stored.shape
    above = (tumor_map >= 90).repeat(8, 0).repeat(8, 1)[:height, :width]
    assert np.array_equal(np.isin(new, (1, 20)), above & (stored > 0))
    assert np.array_equal(new > 0, stored > 0)
    summary = summary_of(tmp_path)
    assert list(summary["class_area_mm2"]) == ["fat", "stroma", "dcis_map_0_35", "tumor_map_0_35"]
    assert summary["qc_flags"] == ["tumor_from_heat_map"]
    assert summary["model"] == "dark (tumor map >= 0.35)"
    about = summary["regrouped"]
    assert (about["tumor_threshold"], about["tumor_map_cell_px"]) == (0.35, 8)
    assert about["tumor_map_least"] == 90


def test_a_lower_threshold_finds_more_tumor(four_classes, tmp_path):
    areas = []
    for text in (BY_MAP, BY_MAP.replace("0.35", "0.05")):
        regroup_slide(job(four_classes, tmp_path / str(len(text)), text))
        areas.append(summary_of(tmp_path / str(len(text)))["tumor_area_mm2"])
    assert areas[0] < areas[1]


def test_the_confidence_stays_only_if_it_is_that_of_the_classes(four_classes, tmp_path):
    """The confidence map holds the probability of the class that the model predicted."""
    renamed = 'rest = "keep"\n[[classes]]\nname = "lipid"\nfrom = ["fat"]\n'
    before = summary_of(four_classes)["mean_confidence"]
    for text, expected in ((renamed, before), (MERGED, None), (BY_MAP, None)):
        out = tmp_path / str(len(text))
        regroup_slide(job(four_classes, out, text))
        assert summary_of(out)["mean_confidence"] == expected
        tiles = pq.read_table(out / "slides" / "a" / "tiles.parquet")["mean_confidence"]
        assert tiles.null_count == (len(tiles) if expected is None else 0)
        assert verify_slide(ResultsFolder(out).slide("a"), None).faults == ()


def test_the_mask_says_how_it_was_made(four_classes, tmp_path):
    regroup_slide(job(four_classes, tmp_path))
    about = json.loads((tmp_path / "slides" / "a" / LABELS / "zarr.json").read_text())
    regrouped = about["attributes"]["noctile"]["regrouped"]
    assert regrouped == summary_of(tmp_path)["regrouped"]
    record = (four_classes / "slides" / "a" / "checksums.json").read_bytes()
    assert regrouped["source"] == {
        "results": str(four_classes),
        "slide_id": "a",
        "run": "20261129T013000.123Z",
        "key": summary_of(four_classes)["key"],
        "checksums_sha256": hashlib.sha256(record).hexdigest(),
    }
    assert regrouped["groups"] == MERGED
    assert regrouped["classes"] == {"other": ["fat", "stroma"], "tumor": ["dcis", "tumor"]}
    assert regrouped["versions"] == {"noctile": noctile.__version__}
    assert regrouped["tumor_threshold"] is None


def test_the_same_job_writes_the_same_bytes(four_classes, tmp_path):
    contents = []
    for name in ("one", "two"):
        regroup_slide(job(four_classes, tmp_path / name))
        folder = tmp_path / name / "slides" / "a"
        contents.append({p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert contents[0] == contents[1]


def test_results_can_be_regrouped_again(four_classes, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    regroup_slide(job(four_classes, first, BENIGN))
    regroup_slide(job(first, second, 'rest = "keep"\n[[classes]]\nname = "x"\nfrom = ["fat"]\n'))
    summary = summary_of(second)
    assert summary["regrouped"]["earlier"] == summary_of(first)["regrouped"]
    assert summary["qc_flags"] == ["other_tumor_classes"]
    with pytest.raises(UsageError, match="tumor map"):
        regroup_slide(job(first, tmp_path / "third", BY_MAP))


def damaged_shard(folder: Path) -> None:
    flip_a_bit(next((folder / LABELS / "0").glob("c/*/*")))


def missing_heat(folder: Path) -> None:
    next((folder / "heat.ome.zarr" / "0").glob("c/0/*/*")).unlink()


def no_plan_of_noctile(folder: Path) -> None:
    edit(folder / "plan.json", plan={})
    write_with_checksums(ResultsFolder(folder.parents[1]).slide("a"), summary_of(folder.parents[1]))


def a_block_that_is_not_planned(folder: Path) -> None:
    plan = read_required_json(folder / "plan.json")["plan"]
    edit(folder / "plan.json", plan=plan | {"blocks": plan["blocks"][1:]})
    write_with_checksums(ResultsFolder(folder.parents[1]).slide("a"), summary_of(folder.parents[1]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (a_block_that_is_not_planned, "does not name blocks that have labels"),
        (damaged_shard, "its checksum differs"),
        (missing_heat, "is missing"),
        (no_plan_of_noctile, "it cannot be read"),
    ],
)
def test_a_damaged_slide_is_named_and_leaves_nothing(copy, tmp_path, damage, message):
    damage(copy / "slides" / "a")
    assert message in regroup_slide(job(copy, tmp_path / "out"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_full_disk_leaves_nothing(four_classes, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "copy_file", full)
    with pytest.raises(StoreError, match="No space left"):
        regroup_slide(job(four_classes, tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_result_is_current_while_its_source_and_the_groups_stay(copy, tmp_path):
    out, other = tmp_path / "out", MERGED.replace('"other"', '"rest_of_it"')
    assert not is_current(job(copy, out))
    regroup_slide(job(copy, out))
    assert is_current(job(copy, out))
    assert is_current(job(copy, out, "# a comment\n" + MERGED))
    assert not is_current(job(copy, out, other))
    edit(copy / "slides" / "a" / "checksums.json", more=1)
    assert not is_current(job(copy, out))
