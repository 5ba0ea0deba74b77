"""The command ``noctile plan``: its findings, and runs that continue from it."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from standins import small_slide

from noctile.cli import main
from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SlideEntry, find_slides
from noctile.workflows.commands import plan as plan_module
from noctile.workflows.commands.plan import PlanResult, plan_slides
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.run.preflight import PlannedSlide
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    monkeypatch.setattr(plan_module, "CALIBRATION_S", 0.05)


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Archive with two good slides, one of them three times, and blank and broken ones."""
    folder = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate("ab"):
        small_slide(folder / f"{name}.tif", seed=seed, height=1300, width=1500)
    small_slide(folder / "glass.tif", seed=None, height=900, width=900)
    small_slide(folder / "nompp.tif", seed=1, height=900, width=900, mpp=None)
    aperio = "Aperio Image Library v1|AppMag = 20"
    small_slide(folder / "power.svs", seed=2, height=900, width=900, mpp=None, description=aperio)
    (folder / "broken.tif").write_bytes(b"II*\0 this is no slide")
    shutil.copy(folder / "a.tif", folder / "copy of a.tif")
    os.link(folder / "b.tif", folder / "link to b.tif")
    return folder


def settings(model: Path, **more) -> RunSettings:
    return RunSettings(
        model=str(model), **{"engine": "serial", "block_px": 480, "device": "cpu", **more}
    )


def planned(
    entries: list[SlideEntry], out: Path, model: Path, **more
) -> tuple[PlanResult, dict[str, PlannedSlide]]:
    result = plan_slides(entries, settings(model, **more), out, lambda progress, say: None)
    return result, {slide.slide_id: slide for slide in result.slides}


def found(folder: Path, *names: str) -> list[SlideEntry]:
    return find_slides([folder / name for name in names] or [folder], None, None).slides


def ledger(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]


class TestFindings:
    @pytest.fixture
    def result(self, slides, model, tmp_path):
        return planned(found(slides), tmp_path, model)

    def test_every_slide_is_listed_with_its_state_reason_and_flags(self, result):
        states = {name: (s.state, s.reason, *s.qc_flags) for name, s in result[1].items()}
        assert states == {
            "a": ("ready", ""),
            "b": ("ready", ""),
            "broken": ("failed", "unopenable"),
            "copy of a": ("ready", ""),
            "glass": ("ready", "", "no_tissue"),
            "link to b": ("ready", ""),
            "nompp": ("failed", "mpp_missing"),
            "power": ("ready", "", "mpp_estimated"),
        }
        assert result[0].exit_code == 1

    def test_duplicates_are_listed_as_copies_or_as_one_file(self, result):
        twins = {
            name: (s.same_file, s.same_content)
            for name, s in result[1].items()
            if s.same_file or s.same_content
        }
        assert twins == {"copy of a": ("", "a"), "link to b": ("b", "b")}

    def test_pixel_size_and_its_source_are_listed(self, result):
        assert (result[1]["a"].mpp, result[1]["a"].mpp_source) == ((0.5, 0.5), "tiff tags")
        assert result[1]["power"].mpp_source == "objective power"

    def test_the_totals_are_those_of_the_slides(self, result, tmp_path):
        slides = result[0].slides
        assert result[0].left == sum(s.predictions or 0 for s in slides) > 0
        text = "\n".join(result[0].totals())
        assert "8 slides: 6 ready, 2 failed; 1 without tissue, 2 duplicates" in text
        assert f"tissue {sum(s.tissue_area_mm2 or 0 for s in slides):.2f} mm2" in text
        assert result[0].free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)

    def test_the_speed_was_measured_on_real_tiles(self, result):
        calibration = result[0].calibration
        assert calibration is not None
        assert calibration.tiles > 0
        assert calibration.slides == ("a",)
        assert result[0].seconds == pytest.approx(result[0].left / calibration.tiles_per_s)

    def test_the_table_has_a_row_for_each_slide(self, result, tmp_path):
        with (tmp_path / "plan.csv").open(newline="") as file:
            rows = {row["slide_id"]: row for row in csv.DictReader(file)}
        assert rows.keys() == result[1].keys()
        assert rows["copy of a"]["same_content_as"] == "a"
        assert int(rows["a"]["predictions"]) == result[1]["a"].predictions
        assert rows["nompp"]["predictions"] == ""

    def test_nothing_is_predicted_or_counted(self, result, tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".plan", "plan.csv"]
        for name in ("a", "b"):
            folder = SlideFolder(tmp_path / ".plan" / name)
            assert folder.mask.exists()
            assert not folder.summary.exists()
            assert not list(folder.mask.glob("labels/classes/*/c/**/*"))


class TestExitCode:
    def test_it_is_0_also_with_blank_slides_and_duplicates(self, slides, model, tmp_path):
        assert (
            planned(found(slides, "a.tif", "copy of a.tif", "glass.tif"), tmp_path, model)[
                0
            ].exit_code
            == 0
        )

    def test_it_is_2_if_no_slide_can_be_done(self, slides, model, tmp_path):
        result, _ = planned(found(slides, "broken.tif", "nompp.tif"), tmp_path, model)
        assert (result.exit_code, result.calibration) == (2, None)
        assert "time: nothing to predict" in result.totals()

    def test_it_is_3_if_the_preflight_was_stopped_and_the_other_slides_are_skipped(
        self, slides, model, tmp_path
    ):
        result, by_id = planned(
            found(slides, "a.tif", "b.tif"), tmp_path, model, min_free_disk_bytes=2**60
        )
        assert result.exit_code == 3
        assert {slide.state for slide in by_id.values()} == {"skipped"}
        assert "disk low" in by_id["a"].message
        assert "time: unknown, the speed was not measured" in result.totals()


class TestRunUsesThePlan:
    def test_a_run_plans_no_slide_again_and_equals_a_run_without_a_plan(
        self, slides, model, tmp_path
    ):
        entries = found(slides, "a.tif", "glass.tif", "nompp.tif")
        planned(entries, tmp_path / "planned", model)
        before = (tmp_path / "planned" / ".plan" / "a" / "plan.json").stat().st_mtime_ns
        for out in ("planned", "fresh"):
            run_slides(entries, settings(model), tmp_path / out, lambda progress, say: None)
        assert (tmp_path / "planned" / "slides" / "a" / "plan.json").stat().st_mtime_ns == before
        assert [
            line["fresh"] for line in ledger(tmp_path / "planned") if line["event"] == "prepare"
        ] == [False, False]
        assert not (tmp_path / "planned" / ".plan" / "a").exists()
        files = [
            p.relative_to(tmp_path / "fresh")
            for p in (tmp_path / "fresh" / "slides").rglob("*")
            if p.is_file()
        ]
        assert len(files) > 20
        for file in files:
            assert (tmp_path / "planned" / file).read_bytes() == (
                tmp_path / "fresh" / file
            ).read_bytes()

    def test_a_slide_that_fails_in_a_plan_is_tried_by_the_run(self, slides, model, tmp_path):
        entries = found(slides, "a.tif", "nompp.tif")
        planned(entries, tmp_path, model)
        result = run_slides(entries, settings(model), tmp_path, lambda progress, say: None)
        assert [row.reason for row in result.rows] == ["", "mpp_missing"]
        assert Ledger(tmp_path / "ledger.jsonl").state.attempts("nompp") == 1
        planned(entries, tmp_path, model, retry_failed=True)
        assert Ledger(tmp_path / "ledger.jsonl").state.attempts("nompp") == 1

    def test_slides_that_an_earlier_run_has_done_are_not_to_do(self, slides, model, tmp_path):
        entries = found(slides, "a.tif", "b.tif")
        run_slides(entries[:1], settings(model), tmp_path, lambda progress, say: None)
        result, by_id = planned(entries, tmp_path, model)
        assert (by_id["a"].state, by_id["a"].predictions_left, by_id["a"].disk_bytes) == (
            "done",
            0,
            0,
        )
        assert result.left == by_id["b"].predictions == by_id["b"].predictions_left
        assert slide_fault(SlideFolder(tmp_path / "slides" / "a")) is None

    def test_a_slide_whose_folder_was_deleted_is_planned_from_nothing(
        self, slides, model, tmp_path
    ):
        """The ledger knows its blocks; the preflight must record that they have gone."""
        entries = found(slides, "a.tif")
        run_slides(entries, settings(model), tmp_path, lambda progress, say: None)
        summary = (tmp_path / "slides" / "a" / "summary.json").read_bytes()
        shutil.rmtree(tmp_path / "slides" / "a")
        _, by_id = planned(entries, tmp_path, model)
        assert by_id["a"].predictions_left == by_id["a"].predictions
        run_slides(entries, settings(model), tmp_path, lambda progress, say: None)
        assert (tmp_path / "slides" / "a" / "summary.json").read_bytes() == summary

    def test_a_folder_that_a_run_holds_is_refused(self, slides, model, tmp_path):
        lease = Lease(tmp_path, lambda reason: None)
        try:
            with pytest.raises(UsageError, match="another run"):
                planned(found(slides, "a.tif"), tmp_path, model)
        finally:
            lease.close()


class TestCommand:
    def test_it_takes_the_options_of_run_and_ends_with_a_table_and_totals(
        self, slides, model, tmp_path
    ):
        (tmp_path / "m.csv").write_text(
            f"slide_id,path\ncase 7,{slides / 'a.tif'}\ncase 8,{slides / 'nompp.tif'}\n"
        )
        words = [
            "--manifest",
            tmp_path / "m.csv",
            "--out",
            tmp_path / "out",
            "--model",
            model,
            "--engine",
            "serial",
        ]
        done = CliRunner().invoke(main, ["plan", *map(str, words), "--device", "cpu"])
        assert done.exit_code == 1, done.output
        assert "│ case 7 " in done.output
        assert "mpp_missing" in done.output
        for total in (
            "2 slides: 1 ready, 1 failed",
            "tissue 0.",
            "time: about",
            "disk: masks at most",
            "memory: a task",
        ):
            assert total in done.output
        assert (tmp_path / "out" / "plan.csv").exists()
