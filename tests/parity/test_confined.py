"""Runs whose slides are confined: the same bytes by any engine, made anew when a file changes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from roi_files import box, drawn, feature, write_manifest, write_mask, write_roi
from standins import small_slide

import noctile
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.merge import merge_results
from noctile.workflows.commands.regroup import regroup_results
from noctile.workflows.commands.table import write_tables_anew
from noctile.workflows.commands.verify import verify
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.run.progress import RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

FEATURES = (
    feature(box(150, 120, 330, 320), name="bed"),
    feature(box(400, 250, 180, 200), label="Stroma"),
    feature(box(250, 150, 40, 250), label="Ignore*"),
)
GROUPS = """
[[classes]]
name = "all"
from = ["tumor", "stroma"]
role = "tissue"
"""
SETTINGS = {"engine": "serial", "device": "cpu", "block_px": 288}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A slide with regions, one with a tissue mask, one with neither."""
    folder = tmp_path_factory.mktemp("archive")
    for seed, name in ((3, "a"), (5, "b"), (9, "c")):
        small_slide(folder / f"{name}.tif", seed=seed, height=560, width=640)
    write_roi(folder / "a.geojson", *FEATURES)
    write_mask(folder / "b.png", np.mgrid[:56, :64][1] >= 30)
    return folder


def manifest_of(archive: Path, path: Path, **given: Path | str) -> Path:
    """Write the manifest of the three slides; ``given`` replaces a file of one, "" takes it away.

    Paths of the archive are relative to the manifest, which may stand elsewhere.
    """
    files = {"a": archive / "a.geojson", "b": archive / "b.png", "c": ""} | given
    rows = [
        {
            "slide_id": name,
            "path": os.path.relpath(archive / f"{name}.tif", path.parent),
            "patient_id": f"P{name}",
            "roi": "" if name == "b" else file,
            "tissue_mask": file if name == "b" else "",
        }
        for name, file in files.items()
    ]
    return write_manifest(path, *rows)


def run_on(manifest: Path, model: Path, out: Path, observe=lambda *_: None, **more) -> RunResult:
    settings = RunSettings(model=str(model), **{**SETTINGS, **more})
    return run_slides(find_slides([], manifest, None).slides, settings, out, observe)


@pytest.fixture(scope="module")
def finished(archive, model) -> Path:
    """Results of the three slides; only read."""
    out = archive.parent / f"{archive.name}-out"
    manifest = manifest_of(archive, archive / "slides.csv")
    assert statuses(run_on(manifest, model, out)) == ["done"] * 3
    return out


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """Copy of the results, which a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


def labels(out: Path, slide_id: str) -> np.ndarray:
    return MaskStore.open(out / "slides" / slide_id / "mask.ome.zarr").read_level(0)


def summary(out: Path, slide_id: str) -> dict:
    return json.loads((out / "slides" / slide_id / "summary.json").read_text())


def statuses(result: RunResult) -> list[str]:
    return [row.reason or row.status for row in result.rows]


def test_regions_have_the_areas_that_a_count_of_their_labels_gives(finished):
    bed, stroma, ignored = FEATURES
    found = labels(finished, "a")
    frame = MaskStore.open(finished / "slides/a/mask.ome.zarr").layout.frame
    cut = ~drawn([ignored], frame, (0.5, 0.5))
    inside = [drawn([one], frame, (0.5, 0.5)) & cut for one in (bed, stroma)]
    assert not found[~(inside[0] | inside[1])].any()
    rows = pq.read_table(finished / "regions.parquet").to_pylist()
    assert [(r["slide_id"], r["patient_id"], r["region"], r["region_class"]) for r in rows] == [
        ("a", "Pa", "bed", None),
        ("a", "Pa", "Stroma", "Stroma"),
    ]
    for row, pixels in zip(rows, inside, strict=True):
        counts = np.bincount(found[pixels], minlength=3)
        areas = [row[f"{name}_area_mm2"] for name in ("region", "tissue", "class_tumor")]
        expected = [pixels.sum(), counts[1:].sum(), counts[1]]
        assert areas == pytest.approx([n * 0.25e-6 for n in expected], abs=6e-7)
        assert row["tumor_area_mm2"] == row["class_tumor_area_mm2"] > 0
        share = counts[1] / counts[1:].sum()
        assert row["tumor_fraction_of_tissue"] == pytest.approx(share, abs=1e-6)
    union = (inside[0] | inside[1]).sum() * 0.25e-6
    assert summary(finished, "a")["roi_area_mm2"] == pytest.approx(union, abs=6e-7)


def test_all_tables_tell_of_the_confinement(finished):
    table = {row["slide_id"]: row for row in pq.read_table(finished / "slides.parquet").to_pylist()}
    analysed = (labels(finished, "a") > 0).sum() * 0.25e-6
    assert table["a"]["tissue_area_mm2"] == pytest.approx(analysed, abs=6e-7)
    assert table["a"]["roi_area_mm2"] > analysed
    assert table["b"]["roi_area_mm2"] is None
    assert "tissue_mask_given" in table["b"]["qc_flags"]
    assert set(np.flatnonzero(labels(finished, "b").any(axis=0)) // 10) == set(range(30, 64))
    assert len((finished / "regions.csv").read_text().splitlines()) == 3
    columns = json.loads((finished / "columns.json").read_text())["regions"]
    assert [c["name"] for c in columns] == pq.read_schema(finished / "regions.parquet").names
    assert verify(finished, [], 1, lambda _: None).exit_code == 0


def test_dask_gives_the_same_bytes(finished, archive, model, tmp_path):
    assert statuses(run_on(archive / "slides.csv", model, tmp_path, engine="dask", workers=2))
    assert bytes_of(tmp_path / "slides") == bytes_of(finished / "slides")
    assert (tmp_path / "regions.csv").read_bytes() == (finished / "regions.csv").read_bytes()


def test_a_stopped_run_goes_on_with_the_same_regions(finished, archive, model, tmp_path):
    calls = []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt

    assert run_on(archive / "slides.csv", model, tmp_path, interrupt).stopped
    assert (tmp_path / ".staging" / "a" / "roi.geojson").exists()
    run_on(archive / "slides.csv", model, tmp_path)
    assert bytes_of(tmp_path / "slides") == bytes_of(finished / "slides")


def test_a_slide_without_files_is_made_as_without_a_manifest(finished, archive, model, tmp_path):
    slides = find_slides([archive / "c.tif"], None, None).slides
    run_slides(slides, RunSettings(model=str(model), **SETTINGS), tmp_path, lambda *_: None)
    assert bytes_of(tmp_path / "slides" / "c") == bytes_of(finished / "slides" / "c")
    assert not (tmp_path / "regions.csv").exists()


def test_a_copy_of_the_regions_is_no_change(out, archive, model, tmp_path):
    before = bytes_of(out / "slides")
    copy = shutil.copyfile(archive / "a.geojson", tmp_path / "copy.geojson")
    manifest = manifest_of(archive, tmp_path / "slides.csv", a=copy)
    assert statuses(run_on(manifest, model, out)) == ["done"] * 3
    assert bytes_of(out / "slides") == before


def test_other_regions_are_refused_and_made_with_redo(out, archive, model, tmp_path):
    before = bytes_of(out / "slides")
    other = write_roi(tmp_path / "other.geojson", FEATURES[0])
    manifest = manifest_of(archive, tmp_path / "slides.csv", a=other)
    with pytest.raises(UsageError, match=r"1 of 3 slides.*other regions of interest.*\(a\)"):
        run_on(manifest, model, out)
    assert bytes_of(out / "slides") == before
    assert statuses(run_on(manifest, model, out, redo=True)) == ["done"] * 3
    assert [one["region"] for one in summary(out, "a")["regions"]] == ["bed"]
    assert summary(out, "a")["key"] != json.loads(before["a/summary.json"])["key"]
    assert pq.read_table(out / "regions.parquet").num_rows == 1
    mask = write_mask(tmp_path / "other.png", np.mgrid[:56, :64][1] > 40)
    manifest = manifest_of(archive, tmp_path / "slides.csv", a=other, b=mask)
    with pytest.raises(UsageError, match=r"\(b\)"):
        run_on(manifest, model, out)


def test_regions_that_are_taken_away_leave_an_empty_table(out, archive, model, tmp_path):
    manifest = manifest_of(archive, tmp_path / "slides.csv", a="")
    assert statuses(run_on(manifest, model, out, redo=True)) == ["done"] * 3
    assert pq.read_table(out / "regions.parquet").num_rows == 0
    assert not (out / "slides" / "a" / "roi.geojson").exists()
    assert verify(out, [], 1, lambda _: None).exit_code == 0


@pytest.mark.parametrize("deleted", ["regions.parquet", "regions.csv", "columns.json"])
def test_a_deleted_file_of_the_tables_is_written_anew_without_regions_too(
    deleted, out, archive, model, tmp_path
):
    shutil.rmtree(out / "slides" / "a")  # the only slide with regions
    (out / deleted).unlink()
    write_tables_anew(out, None)
    assert pq.read_table(out / "regions.parquet").num_rows == 0
    assert len((out / "regions.csv").read_text().splitlines()) == 1
    assert verify(out, [], 1, lambda _: None).exit_code == 0
    run_on(manifest_of(archive, tmp_path / "slides.csv"), model, out)
    assert pq.read_table(out / "regions.parquet").num_rows == 2


def test_wrong_files_fail_their_slides_alone_until_they_are_mended(archive, model, tmp_path):
    outside = write_roi(tmp_path / "outside.geojson", feature(box(600, 20, 500, 90)))
    wrong = {"a": outside, "b": tmp_path / "missing.png"}
    manifest = manifest_of(archive, tmp_path / "slides.csv", **wrong)
    result = run_on(manifest, model, tmp_path / "out")
    assert statuses(result) == ["roi_invalid", "tissue_mask_invalid", "done"]
    assert [wrong[row.slide_id].name in row.message for row in result.rows[:2]] == [True, True]
    manifest = manifest_of(archive, tmp_path / "slides.csv")
    assert statuses(run_on(manifest, model, tmp_path / "out")) == ["done"] * 3


def test_a_finished_slide_stands_if_its_regions_cannot_be_read(out, archive, model, tmp_path):
    manifest = manifest_of(archive, tmp_path / "slides.csv", a=tmp_path / "gone.geojson")
    assert statuses(run_on(manifest, model, out)) == ["roi_invalid", "done", "done"]
    rows = pq.read_table(out / "slides.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 3
    assert "roi_invalid" in rows[0]["message"]


def test_a_mask_of_noctile_confines_its_own_slide_only(finished, archive, model, tmp_path):
    of_c = finished / "slides" / "c"
    rows = [{"path": archive / f"{name}.tif", "tissue_mask": of_c} for name in "bc"]
    result = run_on(write_manifest(tmp_path / "slides.csv", *rows), model, tmp_path / "out")
    assert statuses(result) == ["tissue_mask_invalid", "done"]
    assert "another slide" in result.rows[0].message
    assert np.array_equal(labels(tmp_path / "out", "c"), labels(finished, "c"))


def test_verify_finds_false_tables_of_regions(out):
    text = (out / "regions.csv").read_text()
    (out / "regions.csv").write_text(text.replace("bed", "bad"))
    table = pq.read_table(out / "regions.parquet")
    doubled = [2 * area for area in table["tumor_area_mm2"].to_pylist()]
    place = table.column_names.index("tumor_area_mm2")
    false = table.set_column(place, table.schema.field(place), [doubled])
    pq.write_table(false, out / "regions.parquet")
    faults = [fault.file for fault in verify(out, [], 1, lambda _: None).tables]
    assert faults == ["regions.parquet", "regions.csv"]
    (out / "regions.csv").unlink()
    assert [f.file for f in verify(out, [], 1, lambda _: None).tables] == ["regions.csv"]
    write_tables_anew(out, None)
    assert verify(out, [], 1, lambda _: None).exit_code == 0


def test_verify_finds_false_areas_of_regions_in_a_summary(out):
    about = summary(out, "a")
    about["regions"][0]["tumor_area_mm2"] *= 2
    write_with_checksums(ResultsFolder(out).slide("a"), about)
    write_tables_anew(out, None)
    (wrong,) = verify(out, [], 1, lambda _: None).wrong
    assert "has regions = " in wrong.faults[0].what


def test_merge_takes_regions_along_and_no_slide_with_other_regions(
    finished, archive, model, tmp_path
):
    other = write_roi(tmp_path / "other.geojson", FEATURES[1])
    run_on(manifest_of(archive, tmp_path / "slides.csv", a=other), model, tmp_path / "two")
    merged = tmp_path / "all"
    result = merge_results([finished, tmp_path / "two"], merged, lambda _: None)
    assert len(result.refused) == 1
    assert (merged / "regions.csv").read_bytes() == (finished / "regions.csv").read_bytes()
    assert verify(merged, [], 1, lambda _: None).exit_code == 0
    page = (merged / "index.html").read_text()
    assert "confined to 2 regions" in page
    assert "<td>bed</td>" in page


def test_a_program_segments_a_region(finished, archive, model):
    given = {"roi": archive / "a.geojson", "model": model, **SETTINGS}
    assert np.array_equal(noctile.segment(archive / "a.tif", **given).labels, labels(finished, "a"))


def outline_px(preview: Path) -> int:
    """Number of pixels of a preview in the colour of the outline of a region."""
    with Image.open(preview) as picture:
        return int((np.abs(np.asarray(picture).astype(int) - (0, 48, 143)).max(-1) < 40).sum())


def test_previews_of_confined_slides_show_the_regions(finished, tmp_path):
    assert outline_px(finished / "slides" / "a" / "preview.jpg") > 1000
    assert outline_px(finished / "slides" / "c" / "preview.jpg") == 0
    groups = tmp_path / "groups.toml"
    groups.write_text(GROUPS)
    regroup_results(finished, groups, tmp_path / "new", 1, lambda _: None)
    assert outline_px(tmp_path / "new" / "slides" / "a" / "preview.jpg") > 1000


def test_a_program_reads_the_regions_as_a_frame(finished, out):
    regions = noctile.open(finished).regions
    expected = pq.read_table(finished / "regions.parquet").to_pandas()
    pd.testing.assert_frame_equal(regions, expected)
    a = noctile.open(finished)["a"].regions
    pd.testing.assert_frame_equal(a, regions.drop(columns=["patient_id", "group"]))
    assert len(noctile.open(finished)["b"].regions) == 0
    (out / "regions.parquet").unlink()
    with pytest.warns(UserWarning, match=r"regions\.parquet is missing.*noctile table"):
        made = noctile.open(out).regions
    pd.testing.assert_frame_equal(made, expected)
    slide = noctile.open(out)["a"]
    slide.summary["regions"][0]["region"] = 5
    with pytest.raises(StoreError, match=r"summary\.json is damaged: its value of regions"):
        _ = slide.regions


def test_regroup_counts_regions_with_the_new_classes(finished, tmp_path):
    groups = tmp_path / "groups.toml"
    groups.write_text(GROUPS)
    regroup_results(finished, groups, tmp_path / "new", 1, lambda _: None)
    before, after = (summary(out, "a")["regions"] for out in (finished, tmp_path / "new"))
    assert [one["tissue_area_mm2"] for one in after] == [one["tissue_area_mm2"] for one in before]
    assert [list(one["class_area_mm2"]) for one in after] == [["all"]] * 2
    assert verify(tmp_path / "new", [], 1, lambda _: None).exit_code == 0
