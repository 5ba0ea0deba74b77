"""Evaluation: measured regions, written files, refused input, and cost."""

import csv
import gc
import json
import shutil
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from standins import ConstantNet, threshold_model

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.card import ClassInfo, ModelCard
from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold
from noctile.pipeline.truth.find import DataSource
from noctile.workflows.commands import evaluate as evaluate_module
from noctile.workflows.commands.evaluate import Evaluation, evaluate

STROMA, IMMUNE, TUMOR = 2, 3, 1
GREY = {STROMA: 200, IMMUNE: 110, TUMOR: 30, 0: 250}
"""Codes of the masks, and how dark they are: `threshold_model` tells the last from the others."""

SCHEME = """
name = "two"
ignore = [3]
[[classes]]
code = 2
name = "stroma"
color = [0, 160, 0]
role = "tissue"
from = [2]
[[classes]]
code = 1
name = "tumor"
color = [200, 0, 0]
role = "tumor"
from = [1]
"""


def write_region(
    folder: Path, name: str, seed: int, side: int = 96, codes: Sequence[int] = (STROMA, TUMOR)
) -> None:
    """Squares of the codes in a rim of 0; a tenth of the pixels look like another code than they
    are."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(codes, (side // 16, side // 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    shown = np.where(rng.random(truth.shape) < 0.1, rng.choice(codes, truth.shape), truth)
    truth[:5] = truth[-5:] = truth[:, :5] = truth[:, -5:] = 0
    grey = np.select([shown == code for code in GREY], GREY.values()).astype(np.uint8)
    for part, pixels in (("rgbs_colorNormalized", np.stack([grey] * 3, axis=2)), ("masks", truth)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / part / f"{name}.png")


def name_of(patient: str, x: int = 0) -> str:
    return f"TCGA-{patient}-DX1_xmin{x}_ymin0_MPP-0.5000"


def counted(
    folder: Path, names: Sequence[str], codes: Sequence[int] = (STROMA, TUMOR)
) -> np.ndarray:
    """Confusion of the predictions of `threshold_model`, from the files alone."""
    confusion = np.zeros((len(codes), len(codes)), np.int64)
    for name in names:
        truth = np.asarray(Image.open(folder / "masks" / f"{name}.png"))
        grey = np.asarray(Image.open(folder / "rgbs_colorNormalized" / f"{name}.png"))[..., 0]
        for row, code in enumerate(codes):
            for column, other in enumerate(codes):
                confusion[row, column] += ((truth == code) & (grey == GREY[other])).sum()
    return confusion


SIDES = {
    "OL-0001": "test",
    "OL-0002": "test",
    "E2-0003": "test",
    "LL-0004": "test",
    "AA-0005": "train",
    "BB-0006": "val",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A region of each patient of `SIDES`, and a second one of the first."""
    for k, patient in enumerate(SIDES):
        write_region(tmp_path / "data", name_of(patient), k)
    write_region(tmp_path / "data", name_of("OL-0001", 500), 99)
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """As a training leaves it, with a split that lists one region of each patient."""
    folder = threshold_model(tmp_path / "model")
    (folder / "scheme.toml").write_text(SCHEME)
    rows = [f"{name_of(p)},TCGA-{p},{p[:2]},data,{side}" for p, side in SIDES.items()]
    (folder / "split.csv").write_text(
        "\n".join(["region_id,patient,institute,source,side", *rows, ""])
    )
    return folder


TEST = [
    name_of("E2-0003"),
    name_of("LL-0004"),
    name_of("OL-0001"),
    name_of("OL-0001", 500),
    name_of("OL-0002"),
]


def measure(model: Path, data: Path, out: Path, **given: Any) -> Evaluation:
    return evaluate(model, [DataSource(path=data)], out, **given)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestMeasuredRegions:
    def test_the_test_side_of_the_models_split_and_regions_of_its_patients(
        self, model, data, tmp_path
    ) -> None:
        found = measure(model, data, tmp_path / "out").metrics
        assert [row["name"] for row in rows(tmp_path / "out" / "regions.csv")] == TEST
        assert (found["regions"], found["patients"]) == (5, 4)
        assert found["notes"] == []
        assert "E2, LL, OL" in found["split"]

    def test_the_figures_are_those_of_an_independent_count(self, model, data, tmp_path) -> None:
        found = measure(model, data, tmp_path / "out").metrics
        confusion = counted(data, TEST)
        assert found["pixels"] == confusion.sum() == 5 * (96 - 10) ** 2
        assert found["accuracy"]["value"] == pytest.approx(
            np.trace(confusion) / confusion.sum(), abs=1e-6
        )
        tumor = found["classes"]["tumor"]
        p, r = confusion[1, 1] / confusion[:, 1].sum(), confusion[1, 1] / confusion[1].sum()
        assert tumor["precision"]["value"] == pytest.approx(p, abs=1e-6)
        assert tumor["recall"]["value"] == pytest.approx(r, abs=1e-6)
        assert tumor["f1"] == tumor["dice"]
        assert tumor["dice"]["value"] == pytest.approx(2 * p * r / (p + r), abs=1e-6)
        assert tumor["dice"]["low"] < tumor["dice"]["value"] < tumor["dice"]["high"]
        assert found["intervals"]["unit"] == "patient"
        assert found["tumor"]["dice"] == tumor["dice"]

    def test_a_train_or_validation_side_is_named_as_such(self, model, data, tmp_path) -> None:
        for side, words in (("train", "trained on these"), ("val", "chose the model's weights")):
            found = measure(model, data, tmp_path / side, side=side)
            assert found.metrics["regions"] == 1
            assert words in found.metrics["notes"][0]

    def test_all_measures_everything_and_the_report_says_how_many_were_in_training(
        self, model, data, tmp_path
    ) -> None:
        found = measure(model, data, tmp_path / "out", side="all")
        assert found.metrics["regions"] == 7
        assert found.metrics["notes"][0].startswith(
            "2 of these regions trained the model or chose its weights"
        )
        assert (
            "2 of these regions trained the model" in (tmp_path / "out" / "report.html").read_text()
        )

    def test_of_another_data_set_all_regions_are_the_test_side(self, model, tmp_path) -> None:
        write_region(tmp_path / "other", "unlisted_MPP-0.5", 5)
        write_region(tmp_path / "other", name_of("ZZ-0009"), 6)
        found = measure(model, tmp_path / "other", tmp_path / "out").metrics
        assert found["regions"] == 2
        assert "the model's split does not list" in found["split"]

    def test_of_another_data_set_patients_of_the_training_are_left_out(
        self, model, tmp_path
    ) -> None:
        write_region(tmp_path / "other", name_of("AA-0005", 900), 5)
        write_region(tmp_path / "other", name_of("ZZ-0009"), 6)
        measure(model, tmp_path / "other", tmp_path / "out")
        assert [row["name"] for row in rows(tmp_path / "out" / "regions.csv")] == [
            name_of("ZZ-0009")
        ]

    def test_unlisted_regions_are_left_out_and_counted(self, model, data, tmp_path) -> None:
        write_region(data, name_of("ZZ-0009"), 6)
        found = measure(model, data, tmp_path / "out").metrics
        assert found["regions"] == 5
        assert found["notes"] == ["1 regions that the model's split does not list are left out"]

    def test_without_a_split_the_official_test_institutes_are_measured_with_a_note(
        self, model, data, tmp_path
    ) -> None:
        (model / "split.csv").unlink()
        found = measure(model, data, tmp_path / "out").metrics
        assert found["regions"] == 5
        assert "official test institutes" in found["split"]
        assert "may have seen" in found["notes"][0]

    def test_several_sources_are_one_set_in_the_order_of_their_names(
        self, model, data, tmp_path
    ) -> None:
        write_region(tmp_path / "more", "TCGA-OL-0002-DX1_xmin9_ymin0_MPP-0.5000", 7)
        evaluate(
            model, [DataSource(path=tmp_path / "more"), DataSource(path=data)], tmp_path / "out"
        )
        names = [row["name"] for row in rows(tmp_path / "out" / "regions.csv")]
        assert len(names) == 6
        assert names == sorted(names)
        groups = rows(tmp_path / "out" / "groups.csv")
        counts = {(row["group"], row["name"]): (row["regions"], row["patients"]) for row in groups}
        assert counts == {
            ("institute", "E2"): ("1", "1"),
            ("institute", "LL"): ("1", "1"),
            ("institute", "OL"): ("4", "2"),
            ("source", "data"): ("5", "4"),
            ("source", "more"): ("1", "1"),
        }


class TestWrittenFiles:
    def test_all_files_are_written_with_the_same_figures(self, model, data, tmp_path) -> None:
        out = tmp_path / "deep" / "out"
        said: list[str] = []
        result = measure(model, data, out, say=said.append)
        pictures = {"confusion.png", "reliability.png", "gallery.png"}
        tables = {"per_class.csv", "regions.csv", "groups.csv", "confusion.csv"}
        assert {path.name for path in out.iterdir()} == {
            "metrics.json",
            "report.html",
            *pictures,
            *tables,
        }
        assert json.loads((out / "metrics.json").read_text()) == result.metrics
        assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
        confusion = counted(data, TEST)
        assert [
            [int(row[name]) for name in ("stroma", "tumor")] for row in rows(out / "confusion.csv")
        ] == confusion.tolist()
        by_region = {row["name"]: row for row in rows(out / "regions.csv")}
        one = counted(data, [TEST[0]])
        assert float(by_region[TEST[0]]["accuracy"]) == pytest.approx(
            np.trace(one) / one.sum(), abs=1e-6
        )
        assert float(by_region[TEST[0]]["dice_tumor"]) == pytest.approx(
            2 * one[1, 1] / (one[1].sum() + one[:, 1].sum()), abs=1e-6
        )
        (tumor,) = (row for row in rows(out / "per_class.csv") if row["class"] == "tumor")
        assert float(tumor["recall_low"]) == result.metrics["classes"]["tumor"]["recall"]["low"]
        assert (
            f"{result.metrics['classes']['tumor']['dice']['value']:.3f}"
            in (out / "report.html").read_text()
        )
        assert any("stroma" in line for line in said)

    def test_a_stain_is_the_color_of_the_region(self, model, data, tmp_path) -> None:
        measure(model, data, tmp_path / "out")
        image = np.asarray(Image.open(data / "rgbs_colorNormalized" / f"{TEST[0]}.png"))[
            ::4, ::4, 0
        ]
        grey = round(float(image.mean()))
        (row, *_) = rows(tmp_path / "out" / "regions.csv")
        assert row["stain"] == f"#{grey:02x}{grey:02x}{grey:02x}"

    def test_with_few_patients_the_intervals_are_named_as_those_of_blocks(
        self, model, tmp_path
    ) -> None:
        write_region(tmp_path / "one", name_of("ZZ-0001"), 0, side=1536)
        found = measure(model, tmp_path / "one", tmp_path / "out").metrics
        assert (found["intervals"]["unit"], found["intervals"]["units"]) == ("block", 9)
        assert found["accuracy"]["low"] < found["accuracy"]["value"] < found["accuracy"]["high"]
        text = (tmp_path / "out" / "report.html").read_text()
        assert "9 blocks of 512 px" in text
        assert "nothing of other patients" in text

    def test_without_blocks_there_is_no_interval(self, model, tmp_path) -> None:
        write_region(tmp_path / "one", name_of("ZZ-0001"), 0)
        found = measure(model, tmp_path / "one", tmp_path / "out").metrics
        assert found["intervals"]["unit"] == "none"
        assert found["accuracy"]["low"] is None

    def test_names_do_not_become_markup(self, model, tmp_path) -> None:
        write_region(tmp_path / "one", "<b>&_MPP-0.5", 0)
        measure(model, tmp_path / "one", tmp_path / "out")
        text = (tmp_path / "out" / "report.html").read_text()
        assert "&lt;b&gt;&amp;_MPP" in text
        assert "<b>&_MPP" not in text

    def test_the_same_call_writes_the_same_figures(self, model, data, tmp_path) -> None:
        for name in ("a", "b"):
            measure(model, data, tmp_path / name)
        for name in ("metrics.json", "regions.csv", "gallery.png", "report.html"):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


class TestOtherClasses:
    @pytest.fixture
    def three(self, tmp_path: Path) -> Path:
        """A model of three classes and no scheme of its own."""
        named = {STROMA: "stroma", IMMUNE: "infiltrate", TUMOR: "tumor"}
        classes = [
            {
                "code": code,
                "name": name,
                "color": (code, 0, 0),
                "role": "tumor" if code == TUMOR else "tissue",
            }
            for code, name in named.items()
        ]
        fields = {"name": "three", "description": "", "classes": classes, "licence": "CC0-1.0"}
        fields |= {"mpp": 0.5, "tile_px": 128, "overlap_px": 32}
        save_threshold(tmp_path / "three", ThresholdConfig(thresholds_od=(0.25, 0.6)), fields)
        for k in range(3):
            write_region(tmp_path / "mixed", name_of(f"ZZ-000{k}"), k, codes=tuple(named))
        return tmp_path / "three"

    def test_a_model_without_a_scheme_asks_for_one(self, three, tmp_path) -> None:
        with pytest.raises(UsageError, match=r"has no scheme\.toml.*--classes"):
            measure(three, tmp_path / "mixed", tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_classes_of_the_model_count_as_those_of_the_given_scheme(self, three, tmp_path) -> None:
        names = [name_of(f"ZZ-000{k}") for k in range(3)]
        confusion = counted(tmp_path / "mixed", names, (STROMA, IMMUNE, TUMOR))
        found = measure(three, tmp_path / "mixed", tmp_path / "out", classes="tumor").metrics
        assert list(found["classes"]) == ["tumor", "other"]
        right = confusion[:2, :2].sum() + confusion[2, 2]
        assert found["accuracy"]["value"] == pytest.approx(right / confusion.sum(), abs=1e-6)
        five = measure(three, tmp_path / "mixed", tmp_path / "out", classes="bcss5").metrics
        assert five["accuracy"]["value"] == pytest.approx(
            np.trace(confusion) / confusion.sum(), abs=1e-6
        )
        assert five["classes"]["necrosis"]["dice"]["value"] is None

    def test_a_scheme_without_a_class_of_the_model_is_refused(self, three, tmp_path) -> None:
        (tmp_path / "two.toml").write_text(SCHEME)
        with pytest.raises(UsageError, match=r"no class for infiltrate of model 'three'"):
            measure(three, tmp_path / "mixed", tmp_path / "out", classes=str(tmp_path / "two.toml"))


class TestWhatIsRefused:
    def test_a_side_without_regions(self, model, data, tmp_path) -> None:
        shutil.rmtree(data)
        write_region(data, name_of("AA-0005"), 0)
        with pytest.raises(UsageError, match=r"no region is on side test .* 1 train"):
            measure(model, data, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_side_of_a_model_without_a_split_is_refused(self, model, data, tmp_path) -> None:
        (model / "split.csv").unlink()
        with pytest.raises(UsageError, match="no region is on side train"):
            measure(model, data, tmp_path / "out", side="train")

    def test_a_test_region_of_a_training_patient_is_refused(self, model, data, tmp_path) -> None:
        split = (model / "split.csv").read_text()
        (model / "split.csv").write_text(
            split + f"{name_of('OL-0001', 500)},TCGA-OL-0001,OL,data,train\n"
        )
        with pytest.raises(UsageError, match="TCGA-OL-0001"):
            measure(model, data, tmp_path / "out")

    def test_a_test_tile_of_a_training_patient_is_refused(self, model, data, tmp_path) -> None:
        split = (
            (model / "split.csv")
            .read_text()
            .replace(f"{name_of('OL-0002')},TCGA-OL-0002", f"{name_of('OL-0002')},TCGA-XX-0000")
        )
        (model / "split.csv").write_text(split + "another,TCGA-OL-0002,OL,data,train\n")
        with pytest.raises(UsageError, match=r"TCGA-OL-0002.*1 regions leak"):
            measure(model, data, tmp_path / "out")

    def test_unknown_codes_are_refused(self, model, data, tmp_path) -> None:
        path = data / "masks" / f"{TEST[0]}.png"
        codes = np.array(Image.open(path))
        codes[20:30, 20:30] = 77
        Image.fromarray(codes).save(path)
        with pytest.raises(UsageError, match=r"E2-0003.*77 \(100 px\)"):
            measure(model, data, tmp_path / "out")

    def test_regions_without_known_classes_are_refused(self, model, tmp_path) -> None:
        write_region(tmp_path / "one", name_of("ZZ-0001"), 0, codes=(IMMUNE,))
        with pytest.raises(UsageError, match="not one pixel of the 1 regions"):
            measure(model, tmp_path / "one", tmp_path / "out")

    def test_two_regions_of_one_name_are_refused(self, model, data, tmp_path) -> None:
        shutil.copytree(data, tmp_path / "again")
        with pytest.raises(UsageError, match="two regions are called"):
            evaluate(
                model,
                [DataSource(path=data), DataSource(path=tmp_path / "again")],
                tmp_path / "out",
            )

    def test_an_output_folder_is_made_before_the_prediction(
        self, model, data, tmp_path, monkeypatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(
            evaluate_module, "load_predictor", lambda *_: pytest.fail("it loaded the model first")
        )
        with pytest.raises(UsageError, match=r"--out .* cannot be written"):
            measure(model, data, tmp_path / "file" / "out")

    def test_a_missing_model_is_refused(self, data, tmp_path) -> None:
        with pytest.raises(UsageError, match="neither an installed model nor a folder"):
            measure(tmp_path / "nothing", data, tmp_path / "out")


class Timed:
    """A predictor that measures its own time on the processor (s)."""

    def __init__(self, side_px: int) -> None:
        classes = [
            ClassInfo(code=2, name="stroma", color=(0, 160, 0), role="tissue"),
            ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),
        ]
        fields = {
            "name": "timed",
            "description": "",
            "classes": classes,
            "licence": "CC0-1.0",
            "sha256": "0" * 64,
        }
        self.card = ModelCard(**fields, mpp=0.5, tile_px=side_px, overlap_px=0)
        self._net, self.seconds, self.tiles = ConstantNet(self.card, [0.4, 0.6]), 0.0, 0

    def __call__(self, tiles: np.ndarray) -> Any:
        began = time.process_time()
        answer = self._net(tiles)
        self.seconds += time.process_time() - began
        self.tiles += len(tiles)
        return answer


def write_copies(folder: Path, count: int, side: int) -> Path:
    """The same tile under many names, a patient each."""
    first = name_of("ZZ-0000")
    write_region(folder, first, 0, side)
    for part in ("rgbs_colorNormalized", "masks"):
        for k in range(1, count):
            shutil.copyfile(
                folder / part / f"{first}.png", folder / part / f"{name_of(f'ZZ-{k:04}')}.png"
            )
    return folder


class TestCost:
    def test_100_tiles_take_seconds_beyond_the_predictions(
        self, model, tmp_path, monkeypatch
    ) -> None:
        predict = Timed(512)
        monkeypatch.setattr(evaluate_module, "load_predictor", lambda *_: predict)
        data = write_copies(tmp_path / "tiles", 100, 512)
        began = time.process_time()
        found = measure(model, data, tmp_path / "out")
        beyond = time.process_time() - began - predict.seconds
        assert (predict.tiles, found.metrics["patients"]) == (100, 100)
        assert beyond < 10

    def test_memory_does_not_grow_with_the_set(self, model, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(evaluate_module, "load_predictor", lambda *_: Timed(256))
        peaks = []
        for count, traced in ((11, False), (11, True), (35, True)):  # the first fills caches
            data = tmp_path / f"of_{count}"
            if not data.exists():
                write_copies(data, count, 256)
            gc.collect()
            if traced:
                tracemalloc.start()
            measure(model, data, tmp_path / "out")
            if traced:
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.stop()
        pixels_and_classes = 256 * 256 * 4
        assert peaks[1] - peaks[0] < 2 * pixels_and_classes  # of 24 more regions
