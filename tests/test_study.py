"""A folder like the official BCSS release goes through train, evaluate and run."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.masks.store import MaskStore
from sample_slides.make_regions import write_regions

SETTINGS = """
encoder_weights = "none"
decoder_channels = [32, 16, 16, 8, 8]
crop_px = 128
tile_px = 128
overlap_px = 32
batch_size = 2
steps_per_epoch = 2
epochs = 2
mpp = 0.5
device = "cpu"
[split]
by = "patient"
seed = 1
"""


def noctile(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noctile", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def bcss(tmp_path_factory) -> Path:
    """Twelve patients of several institutes, all 21 codes in each mask."""
    out = tmp_path_factory.mktemp("data") / "BCSS"
    write_regions(out, range(3000, 3008), 512, 0.25, all_codes=True)
    return out


@pytest.fixture(scope="module")
def model(bcss, tmp_path_factory) -> tuple[Path, str]:
    """A ResNet34 U-Net of 21 classes after a few steps, and the output of the command."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "train.toml").write_text(SETTINGS)
    done = noctile(
        "train",
        bcss,
        "--out",
        folder / "mine",
        "--config",
        folder / "train.toml",
        "--classes",
        "bcss21",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "mine", done.stdout


@pytest.mark.timeout(600)
class TestOfficialLayout:
    def test_balance_and_weights_are_printed_before_training(self, model):
        text = model[1]
        assert text.index("dcis") < text.index("epoch 1 of 2")
        assert "weight" in text

    def test_no_patient_is_on_two_sides(self, model):
        with (model[0] / "split.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["side"] for row in rows} == {"train", "val", "test"}
        assert len({row["patient"] for row in rows}) == len(rows) == 8

    def test_the_model_has_the_21_classes_with_their_own_codes(self, model):
        card = json.loads((model[0] / "card.json").read_text())
        assert [c["code"] for c in card["classes"]] == list(range(1, 22))
        assert (model[0] / "curves.png").read_bytes().startswith(b"\x89PNG")

    def test_evaluate_reports_each_class(self, model, bcss, tmp_path):
        done = noctile("evaluate", model[0], bcss, "--split", "test", "--out", tmp_path / "report")
        assert done.returncode == 0, done.stdout + done.stderr
        with (tmp_path / "report" / "per_class.csv").open() as file:
            assert len(list(csv.DictReader(file))) == 21
        assert "<html" in (tmp_path / "report" / "report.html").read_text()

    def test_run_takes_the_model(self, model, bcss, tmp_path):
        image = sorted((bcss / "rgbs_colorNormalized").iterdir())[0]
        done = noctile(
            "run", image, "--model", model[0], "--out", tmp_path / "results", "--engine", "serial"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        store = MaskStore.open(tmp_path / "results" / "slides" / image.stem / "mask.ome.zarr")
        labels = store.read(store.layout.frame.box)
        assert labels.shape == (256, 256)
        assert set(np.unique(labels)) <= set(range(22))


def fails(bcss: Path, tmp_path: Path, *words: object) -> str:
    """Error message of a command that refuses its input."""
    (tmp_path / "train.toml").write_text(SETTINGS)
    done = noctile(
        "train", bcss, "--out", tmp_path / "m", "--config", tmp_path / "train.toml", *words
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m" / "card.json").exists()
    return done.stderr


@pytest.fixture
def own(tmp_path) -> Path:
    """Five patients, to be broken."""
    write_regions(tmp_path / "own", range(3100, 3105), 256, 0.5, all_codes=True)
    return tmp_path / "own"


class TestErrors:
    def test_a_missing_mask_is_named(self, own, tmp_path):
        gone = sorted((own / "masks").iterdir())[2]
        gone.unlink()
        assert gone.name in fails(own, tmp_path)

    def test_an_unknown_code_is_named_with_its_mask(self, own, tmp_path):
        path = sorted((own / "masks").iterdir())[1]
        codes = np.array(Image.open(path))
        codes[40:60, 40:60] = 77
        Image.fromarray(codes).save(path)
        text = fails(own, tmp_path)
        assert "77" in text
        assert path.stem in text

    def test_a_mask_of_another_size_is_named_with_both_sizes(self, own, tmp_path):
        path = sorted((own / "masks").iterdir())[0]
        Image.open(path).crop((0, 0, 200, 256)).save(path)
        text = fails(own, tmp_path)
        assert path.stem in text
        assert "200" in text

    def test_an_empty_class_is_named(self, own, tmp_path):
        for path in (own / "masks").iterdir():
            codes = np.array(Image.open(path))
            codes[codes == 17] = 2
            Image.fromarray(codes).save(path)
        assert "skin_adnexa" in fails(own, tmp_path, "--classes", "bcss21")

    def test_a_split_that_leaks_is_refused_with_the_patient(self, own, tmp_path):
        names = sorted(path.name for path in (own / "masks").iterdir())
        for folder in ("masks", "rgbs_colorNormalized"):  # a second region of the first patient
            first = own / folder / names[0]
            first.with_name(names[0].replace("_xmin", "_xmin9")).write_bytes(first.read_bytes())
        rows = ["region_id,patient,institute,source,side"]
        for path in sorted((own / "masks").iterdir()):
            side = "test" if "_xmin9" in path.name else "train"
            rows.append(f"{path.stem},{path.name[:12]},,own,{side}")
        (tmp_path / "split.csv").write_text("\n".join(rows))
        (tmp_path / "train.toml").write_text(SETTINGS.replace("seed = 1", 'file = "split.csv"'))
        done = noctile("train", own, "--out", tmp_path / "m", "--config", tmp_path / "train.toml")
        assert done.returncode == 2
        assert names[0][:12] in done.stderr
