"""Export of the results in a folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from click.testing import CliRunner
from standins import small_slide, threshold_model

from noctile.cli import main
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.export.formats import Format
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands import export
from noctile.workflows.commands.export import export_results
from noctile.workflows.commands.opened import open_results
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Results of two small slides, one of glass, and a file that is no slide."""
    folder = tmp_path_factory.mktemp("run")
    slides = folder / "slides"
    slides.mkdir()
    for seed, name in enumerate("ab"):
        small_slide(slides / f"{name}.tif", seed=seed, height=900, width=1100)
    small_slide(slides / "glass.tif", seed=None, height=200, width=200)
    (slides / "broken.tif").write_bytes(b"II*\0 this is no slide")
    model = str(threshold_model(folder / "model", dark_od=0.01))
    settings = RunSettings(model=model, engine="serial", block_px=480, device="cpu")
    entries = find_slides([slides], None, None).slides
    run_slides(entries, settings, folder / "results", lambda progress, text: None)
    return folder / "results"


@pytest.fixture
def damaged(finished, tmp_path) -> Path:
    """A copy of the results, which the test may change."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


def cli(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["export", *map(str, words)])
    return result.exit_code, result.output


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def one_process(monkeypatch):
    monkeypatch.setattr(export, "cores", lambda: 1)


def test_each_slide_that_is_done_gets_a_file_named_after_its_own(damaged):
    result = export_results(damaged, ["geojson"])
    assert names(damaged / "exports" / "geojson") == ["a.geojson", "b.geojson", "glass.geojson"]
    assert (len(result.written), result.current, result.failed) == (3, [], [])
    again = export_results(damaged, ["geojson"])
    assert (again.written, len(again.current), again.exit_code) == ([], 3, 0)


def test_one_process_makes_the_same_bytes_as_several(damaged, tmp_path, monkeypatch):
    export_results(damaged, ["geojson"], out=tmp_path / "several")
    monkeypatch.setattr(export, "cores", lambda: 1)
    export_results(damaged, ["geojson"], out=tmp_path / "one")
    for name in names(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "several" / name).read_bytes()


def test_areas_of_the_features_are_those_of_the_table(damaged, one_process):
    (path,) = export_results(damaged, ["geojson"], ["a"]).written
    summary = json.loads((damaged / "slides" / "a" / "summary.json").read_text())
    features = json.loads(path.read_text())["features"]
    for name, area in summary["class_area_mm2"].items():
        of_class = (f["properties"] for f in features if f["properties"]["type"] == name)
        assert sum(p["measurements"]["Area mm^2"] for p in of_class) == pytest.approx(
            area, rel=1e-5
        )


def test_only_the_named_slides_are_exported_and_missing_files_are_made(damaged, one_process):
    export_results(damaged, ["geojson"], ["b", "a"])
    assert names(damaged / "exports" / "geojson") == ["a.geojson", "b.geojson"]
    (damaged / "exports" / "geojson" / "a.geojson").unlink()
    again = export_results(damaged, ["geojson"], ["b", "a"])
    assert [path.name for path in again.written] == ["a.geojson"]


def test_an_unknown_slide_gets_the_nearest_id(damaged):
    with pytest.raises(UsageError, match=r"knows no slide glas; .*did you mean 'glass'"):
        export_results(damaged, ["geojson"], ["glas"])


def test_a_slide_that_failed_is_refused_with_its_reason(damaged):
    with pytest.raises(UsageError, match="broken has no result, its status is failed: unopenable"):
        export_results(damaged, ["geojson"], ["broken"])


@pytest.mark.parametrize(
    ("formats", "options", "message"),
    [
        (["geojsn"], {}, "did you mean 'geojson'.*found geojsn"),
        ([], {}, "--to names no format"),
    ],
)
def test_wrong_formats_are_refused(damaged, formats, options, message):
    with pytest.raises(UsageError, match=message):
        export_results(damaged, formats, options=options)


def test_an_option_of_another_format_is_refused(damaged, monkeypatch):
    monkeypatch.setitem(export.FORMATS, "other", Format(".x", "names:file_stems"))
    with pytest.raises(UsageError, match="--min-area is an option of geojson, and --to is other"):
        export_results(damaged, ["other"], options={"min_area_um2": 1.0})


def test_a_slide_that_fails_is_named_and_the_others_are_exported(damaged, one_process):
    (damaged / "slides" / "b" / "preview.jpg").unlink()
    code, text = cli(damaged, "--to", "geojson")
    assert code == 1
    assert "b: not exported to geojson: the result of b is damaged: preview.jpg is missing" in text
    assert "2 files written, 0 were current, 1 failed" in text
    assert names(damaged / "exports" / "geojson") == ["a.geojson", "glass.geojson"]


def test_a_process_that_dies_is_named_and_the_command_ends(damaged, monkeypatch):
    class Dead:
        def result(self):
            raise export.BrokenProcessPool

    assert isinstance(export._result(Dead()), StoreError)


def test_a_changed_file_is_named_and_stays(damaged, one_process):
    (path,) = export_results(damaged, ["geojson"], ["a"]).written
    path.write_text("mine")
    result = export_results(damaged, ["geojson"])
    assert result.exit_code == 1
    assert "was changed since, and is not replaced" in result.failed[0]
    assert path.read_text() == "mine"


def test_equal_file_names_get_their_ids(damaged, one_process):
    path = damaged / "slides" / "a" / "summary.json"
    shutil.copytree(damaged / "slides" / "a", damaged / "slides" / "P2_a")
    shutil.copy(path, damaged / "slides" / "P2_a")
    export_results(damaged, ["geojson"], ["a", "P2_a"])
    assert names(damaged / "exports" / "geojson") == ["P2_a.geojson", "a.geojson"]


def test_out_gets_the_files_or_a_folder_for_each_of_several_formats(damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "cores", lambda: 1)
    other = Format(".x", "geojson:write_geojson")
    monkeypatch.setitem(export.FORMATS, "other", other)
    export_results(damaged, ["geojson"], ["a"], tmp_path / "one")
    export_results(damaged, ["geojson", "other"], ["a"], tmp_path / "two")
    assert names(tmp_path / "one") == ["a.geojson"]
    assert names(tmp_path / "two" / "other") == ["a.x"]


def test_a_folder_that_holds_other_things_is_refused(damaged, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, text = cli(damaged, "--to", "geojson", "--out", tmp_path / "out")
    assert code == 2
    assert "holds notes.txt" in text


class TestCommand:
    def test_ids_may_follow_one_option(self, damaged, one_process):
        code, text = cli(damaged, "--to", "geojson", "--slides", "a", "b", "--min-area", "5")
        assert code == 0
        assert "2 files written, 0 were current" in text
        assert names(damaged / "exports" / "geojson") == ["a.geojson", "b.geojson"]

    def test_a_second_folder_is_refused(self, damaged):
        code, text = cli(damaged, "elsewhere", "--to", "geojson")
        assert code == 2
        assert "export takes one folder; found elsewhere" in text

    def test_classes_and_limits_reach_the_file(self, damaged, one_process):
        cli(damaged, "--to", "geojson", "--classes", "tumor", "--simplify", "0", "--min-hole", "3")
        made = json.loads((damaged / "exports" / "geojson" / "a.geojson").read_text())
        assert {feature["properties"]["type"] for feature in made["features"]} == {"tumor"}
        assert made["noctile"]["simplified_by_at_most_um"] == 0
        assert made["noctile"]["holes_filled_below_um2"] == 3

    def test_json_names_every_file(self, damaged, one_process):
        result = CliRunner().invoke(main, ["export", str(damaged), "--to", "geojson", "--json"])
        document = json.loads(result.stdout)
        assert len(document["written"]) == 3
        assert document["folders"] == {"geojson": str(damaged / "exports" / "geojson")}

    def test_a_folder_without_results_is_a_usage_error(self, tmp_path):
        assert cli(tmp_path, "--to", "geojson")[0] == 2


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs"])
def test_a_real_slide_lines_up_with_its_mask_to_a_pixel(shared_data, name, tmp_path, one_process):
    path = shared_data / "slides" / name
    settings = RunSettings(
        model=str(threshold_model(tmp_path / "model", dark_od=0.9)), engine="serial", device="cpu"
    )
    entries = find_slides([path], None, None).slides
    run_slides(entries, settings, tmp_path / "results", lambda progress, text: None)
    (file,) = export_results(tmp_path / "results", ["geojson"]).written
    assert file.name == f"{path.stem}.geojson"
    result = open_results(tmp_path / "results")[entries[0].slide_id]
    labels = np.zeros(result.mask().shape, np.uint8)
    scale_y, scale_x = (
        mpp / own
        for mpp, own in zip(
            (result.frames[0].mpp_y, result.frames[0].mpp_x), result.summary["mpp"], strict=True
        )
    )
    codes = {info.name: code for code, info in result.classes.items()}
    for feature in json.loads(file.read_text())["features"]:
        polygon = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert polygon.is_valid
        x0, y0, x1, y1 = polygon.bounds
        part = labels[int(y0 / scale_y) : int(y1 / scale_y) + 1, int(x0 / scale_x) :]
        part = part[:, : int(x1 / scale_x) + 1 - int(x0 / scale_x)]
        y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        y, x = (y + int(y0 / scale_y)) * scale_y, (x + int(x0 / scale_x)) * scale_x
        part[shapely.contains_xy(polygon, x, y)] = codes[feature["properties"]["type"]]
    assert labels.any()
    assert np.array_equal(labels, result.mask()[:])


def test_each_format_is_written_and_named_after_the_slide(finished, tmp_path):
    formats = ("ome-tiff", "dicom-seg", "ozx", "xlsx")
    result = export_results(finished, formats, ["a"], tmp_path / "out")
    assert (result.failed, len(result.written)) == ([], 4)
    found = {folder.name: names(folder) for folder in (tmp_path / "out").iterdir()}
    assert found == {
        "ome-tiff": ["a.ome.tif"],
        "dicom-seg": ["a.dcm"],
        "ozx": ["a.ozx"],
        "xlsx": ["slides.xlsx"],
    }
    again = export_results(finished, formats, ["a"], tmp_path / "out")
    assert [path.name for path in again.written] == ["slides.xlsx"]  # the table is always new


def test_the_workbook_has_the_table(finished, tmp_path):
    export_results(finished, ["xlsx"], (), tmp_path / "out")
    sheet = pd.read_excel(tmp_path / "out" / "slides.xlsx", sheet_name="slides", skiprows=[1])
    assert sheet["slide_id"].tolist() == ["a", "b", "broken", "glass"]
    table = open_results(finished).slides
    assert sheet["tumor_area_mm2"][0] == pytest.approx(table["tumor_area_mm2"].iloc[0])


def test_a_misspelt_format_is_told_from_all_that_there_are(finished):
    code, output = cli(finished, "--to", "xlxs")
    assert (code, "ozx, xlsx; did you mean 'xlsx'?; found xlxs" in output) == (2, True)


def test_a_workbook_that_a_person_has_changed_is_not_replaced(finished, tmp_path):
    (path,) = export_results(finished, ["xlsx"], (), tmp_path / "out").written
    path.write_bytes(b"my own")
    code, output = cli(finished, "--to", "xlsx", "--out", tmp_path / "out")
    assert (code, path.read_bytes()) == (1, b"my own")
    assert "slides.xlsx" in output
