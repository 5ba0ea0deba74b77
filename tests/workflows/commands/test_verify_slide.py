"""Faults of one slide: damage to real results is found, and nothing else is named."""

import json
import random
import shutil

import pyarrow.parquet as pq
import pytest
from damaged_results import (
    LABELS,
    NO_CHECKSUMS,
    check,
    delete_checksums,
    edit,
    faulty_files,
    first_shard,
    flip_a_bit,
    found,
    found_without_checksums,
)

from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_is_found_and_its_file_named(damaged, seed):
    everything = sorted(
        p
        for p in (damaged / "slides" / "a").rglob("*")
        if p.is_file() and p.name != "checksums.json"
    )
    path = random.Random(seed).choice(everything)
    flip_a_bit(path, seed)
    result = check(damaged)
    assert [slide.slide_id for slide in result.wrong] == ["a"]
    assert path.relative_to(damaged).as_posix() in [fault.file for fault in result.wrong[0].faults]


def test_damaged_checksums_are_found(damaged):
    record = damaged / "slides" / "a" / "checksums.json"
    record.write_text(record.read_text().replace('"sha256"', '"sha257"'))
    assert faulty_files(damaged) == ["slides/a/checksums.json"]


def test_missing_checksums_are_a_fault(damaged):
    delete_checksums(damaged)
    assert found(damaged) == [NO_CHECKSUMS]


def test_a_missing_shard_is_found(damaged):
    shard = first_shard(damaged)
    (damaged / shard).unlink()
    assert found(damaged) == [(shard, "is missing")]


def test_an_empty_shard_is_found(damaged):
    shard = first_shard(damaged)
    (damaged / shard).write_bytes(b"")
    assert faulty_files(damaged) == [shard]


def test_an_additional_shard_is_found(damaged):
    shard = damaged / "slides" / "a" / LABELS / "0" / "c" / "99" / "0"
    shard.parent.mkdir()
    shutil.copy(damaged / first_shard(damaged), shard)
    assert faulty_files(damaged) == [shard.relative_to(damaged).as_posix()]


@pytest.mark.parametrize(
    "name",
    [
        f"{LABELS}/0/c/0/1.0a1b.partial",
        "heat.ome.zarr/.0a1b.partial",
        ".tiles.4711.tmp.parquet",
    ],
)
def test_a_file_of_a_killed_writer_is_found(damaged, name):
    leftover = damaged / "slides" / "a" / name
    leftover.parent.mkdir(exist_ok=True, parents=True)
    leftover.write_bytes(b"half")
    assert found(damaged) == [(f"slides/a/{name}", "was left by a writer that was killed")]


@pytest.mark.parametrize("name", ["preview.jpg", "tissue.png", "blocks.json", "mask.ome.zarr"])
def test_a_missing_file_is_found(damaged, name):
    path = damaged / "slides" / "a" / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert found(damaged) == [(f"slides/a/{name}", "is missing")]


def test_a_missing_folder_of_a_slide_is_found_by_its_row(damaged):
    shutil.rmtree(damaged / "slides" / "a")
    assert ("slides/a", "is missing") in found(damaged)


def test_a_truncated_tile_table_is_found(damaged):
    tiles = damaged / "slides" / "a" / "tiles.parquet"
    tiles.write_bytes(tiles.read_bytes()[:-200])
    assert set(faulty_files(damaged)) == {"slides/a/tiles.parquet"}


def test_the_remedies_repair_the_results(results, damaged):
    """The remedies restore every byte of the results."""
    (damaged / first_shard(damaged)).unlink()
    (damaged / "slides" / "b" / "tiles.parquet").write_bytes(b"PAR1")
    remedies = {slide.slide_id: slide.faults[0].remedy for slide in check(damaged).wrong}
    assert remedies["a"].startswith("delete slides/a and run")
    assert remedies["b"].startswith("delete slides/b/summary.json and run")
    shutil.rmtree(damaged / "slides" / "a")
    (damaged / "slides" / "b" / "summary.json").unlink()
    run = json.loads(next((results / "runs").iterdir()).read_text())
    settings = RunSettings.model_validate(run["settings"])
    run_slides(
        find_slides([results.parent / "slides"], None, None).slides,
        settings,
        damaged,
        lambda progress, say: None,
    )
    assert found(damaged) == []
    for path in (p for p in results.glob("slides/**/*") if p.is_file()):
        assert (damaged / path.relative_to(results)).read_bytes() == path.read_bytes()


def test_an_edited_summary_is_compared_with_the_masks(damaged):
    edit(damaged / "slides" / "a" / "summary.json", tumor_area_mm2=1.25)
    faults = found(damaged)
    assert ("slides/a/summary.json", "is not what was written: its checksum differs") in faults
    assert any("has tumor_area_mm2 = 1.25, but the masks give 0." in what for _, what in faults)


@pytest.mark.parametrize(
    "name", ["tissue_area_mm2", "class_area_mm2", "tumor_foci", "mpp", "unreadable_fraction"]
)
def test_each_figure_of_a_summary_is_counted_again(damaged, name):
    delete_checksums(damaged)
    edit(damaged / "slides" / "a" / "summary.json", **{name: 17})
    assert any(
        file == "slides/a/summary.json" and what.startswith(f"has {name} = 17, but")
        for file, what in found_without_checksums(damaged)
    )


def test_edited_measures_are_found_and_those_of_other_versions_are_no_fault(damaged):
    delete_checksums(damaged)
    path = damaged / "slides" / "a" / "summary.json"
    measures = json.loads(path.read_text())["measures"]
    edit(path, measures=measures | {"foci_area_mm2": 17.0})
    faults = found_without_checksums(damaged)
    assert any(what.startswith("has measures = ") for _, what in faults)
    edit(path, measures=measures | {"version": 0})
    assert found_without_checksums(damaged) == []


def test_a_missing_row_of_the_tile_table_is_found(damaged):
    delete_checksums(damaged)
    path = damaged / "slides" / "a" / "tiles.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)
    assert found_without_checksums(damaged) == [
        ("slides/a/tiles.parquet", "differs from the tile table of the masks")
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mask.ome.zarr/labels/classes/zarr.json", "{}"),
        ("mask.ome.zarr/labels/classes/0/zarr.json", "{"),
        ("plan.json", "[]"),
        ("plan.json", '{"key": 1, "slide": {}, "plan": 3}'),
        ("blocks.json", '{"0.0": {}}'),
        ("summary.json", "nonsense"),
        ("preview.jpg", "no picture"),
        ("tiles.parquet", "PAR1"),
    ],
)
def test_an_unreadable_file_is_named_and_affects_no_other_slide(damaged, name, text):
    delete_checksums(damaged)
    (damaged / "slides" / "a" / name).write_text(text)
    result = check(damaged)
    assert [slide.slide_id for slide in result.wrong] == ["a"]
    assert result.wrong[0].faults[-1].file.split("/")[2] == name.split("/")[0]
    assert "cannot be read" in result.wrong[0].faults[-1].what
