"""Stain normalization: amounts, changed pixels, and its use in a run, an evaluation, a training."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from standins import threshold_model

from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.folder import write_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.normalize import (
    NormalizedPredictor,
    StainNormalizer,
    predictor_for_slide,
    stain_amounts,
)
from noctile.pipeline.slides.channel_order import DENSITY
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.stain_candidates import FROM_STAINS, TO_STAINS
from noctile.pipeline.training.fit import fit
from noctile.pipeline.truth.find import DataSource
from noctile.workflows.commands import train as module
from noctile.workflows.commands.evaluate import evaluate
from noctile.workflows.commands.train import load_train_settings, train
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings

WANTED = (1.3, 0.6)


def drawn(haematoxylin: float, eosin: float, seed: int = 0, side: int = 640) -> np.ndarray:
    """Tissue with nests of twice the haematoxylin, and glass on the left.

    The arguments are the largest amounts of each stain.
    """
    rng = np.random.default_rng(seed)
    nests = (np.add.outer(np.arange(side), np.arange(side)) // 80) % 2
    amounts = np.stack(
        [haematoxylin * (0.5 + 0.5 * nests), np.full(nests.shape, eosin), 0.0 * nests], axis=-1
    )
    amounts[..., :2] *= rng.uniform(0.8, 1, (side, side, 1))
    amounts[:, : side // 4] = 0
    return np.clip(256 * np.exp(-amounts @ FROM_STAINS) - 0.5, 0, 255).astype(np.uint8)


def model_with_stain(folder, stain):
    fields = json.loads((threshold_model(folder) / "card.json").read_text())
    del fields["sha256"]
    write_card(folder, fields | {"stain": stain})
    return folder


class TestAmounts:
    def test_they_are_the_99th_percentiles_of_tissue(self) -> None:
        pixels = drawn(1.5, 0.9)
        amounts = (-np.log((pixels.reshape(-1, 3) + 1.0) / 256) @ np.linalg.inv(FROM_STAINS))[:, :2]
        tissue = amounts[amounts.sum(axis=1) > 0.3]
        assert stain_amounts([pixels]) == pytest.approx(
            np.percentile(tissue, 99, axis=0), abs=0.006
        )
        assert stain_amounts([pixels]) == pytest.approx((1.49, 0.895), abs=0.03)

    def test_parts_and_their_order_do_not_matter(self) -> None:
        pixels = drawn(1.5, 0.9)
        assert stain_amounts([pixels[300:], pixels[:300]]) == stain_amounts(iter([pixels]))

    def test_glass_has_no_amounts(self) -> None:
        assert stain_amounts([np.full((64, 64, 3), 250, np.uint8)]) is None
        assert stain_amounts([]) is None


class TestChange:
    @given(st.tuples(*[st.floats(0.3, 3)] * 2), st.integers(0, 2**32))
    def test_a_slide_with_the_wanted_stains_is_not_changed(self, amounts, seed) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
        assert (StainNormalizer(amounts, amounts)(pixels) == pixels).all()

    def test_a_changed_slide_has_the_wanted_stains(self) -> None:
        pixels = drawn(1.1, 1.4)
        found = stain_amounts([pixels])
        assert stain_amounts([StainNormalizer(found, WANTED)(pixels)]) == pytest.approx(
            WANTED, abs=0.02
        )

    def test_changed_pixels_follow_the_definition(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
        changed = StainNormalizer((1.0, 1.0), (1.4, 0.7))(pixels)
        density = DENSITY[pixels].astype(float) @ TO_STAINS @ np.diag((1.4, 0.7, 1)) @ FROM_STAINS
        assert np.abs(np.clip(256 * np.exp(-density) - 1, 0, 255) - changed).max() <= 0.51

    def test_a_pixel_does_not_depend_on_its_neighbours(self) -> None:
        pixels = np.random.default_rng(1).integers(0, 256, (2, 130, 90, 3), np.uint8)
        normalize = StainNormalizer((1.2, 0.8), WANTED)
        assert (normalize(pixels)[1, 70:101, 3:20] == normalize(pixels[1, 70:101, 3:20])).all()

    def test_glass_stays_glass(self) -> None:
        white = np.full((4, 4, 3), 255, np.uint8)
        assert (StainNormalizer((0.1, 0.1), WANTED)(white) == 255).all()

    def test_noise_is_not_amplified(self) -> None:
        pixels = drawn(0.02, 0.9)
        mild, strong = (
            StainNormalizer((amount, 0.9), (1.6, 0.9))(pixels) for amount in (1.6 / 2.5, 0.001)
        )
        assert (mild == strong).all()


class TestPredictor:
    def test_a_model_without_stain_amounts_is_not_wrapped(self, tmp_path) -> None:
        predict = load_predictor(threshold_model(tmp_path))
        assert predictor_for_slide(predict, (1.0, 1.0)) is predict

    def test_a_slide_without_tissue_is_not_changed(self, tmp_path) -> None:
        predict = load_predictor(model_with_stain(tmp_path, WANTED))
        assert predictor_for_slide(predict, None) is predict

    def test_the_model_gets_changed_tiles(self, tmp_path) -> None:
        predict = load_predictor(model_with_stain(tmp_path, WANTED))
        tiles = drawn(1.0, 1.5)[None, :128, 160:288]
        seen = predictor_for_slide(predict, (1.0, 1.5))
        assert isinstance(seen, NormalizedPredictor)
        assert (seen.card, seen.batch_size) == (predict.card, predict.batch_size)
        assert (seen(tiles) == predict(StainNormalizer((1.0, 1.5), WANTED)(tiles))).all()
        assert (seen(tiles) != predict(tiles)).any()


def write_pair(folder, name, pixels) -> None:
    """A region and its truth: tumor where the nests are."""
    side = len(pixels)
    nests = (np.add.outer(np.arange(side), np.arange(side)) // 80) % 2
    nests[:, : side // 4] = 0
    for part, image in (("images", pixels), ("masks", (255 * nests).astype(np.uint8))):
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / part / f"{name}.png")


@pytest.fixture
def pair(tmp_path):
    """The same tissue twice, stained differently."""
    folder = tmp_path / "data"
    write_pair(folder, "strong", drawn(2.0, 1.2))
    write_pair(folder, "pale", drawn(1.0, 0.7))
    return folder


def tumor_share(model, pair, out) -> dict[str, float]:
    entries = find_slides(
        [pair / "images" / f"{name}.png" for name in ("strong", "pale")], None, 0.5
    ).slides
    rows = run_slides(
        entries, RunSettings(model=str(model), engine="serial"), out, lambda *_: None
    ).rows
    assert [row.status for row in rows] == ["done", "done"]
    stores = {
        row.slide_id: MaskStore.open(out / "slides" / row.slide_id / "mask.ome.zarr")
        for row in rows
    }
    labels = {name: store.read(store.layout.frame.box) for name, store in stores.items()}
    return {name: np.mean(values[values > 0] == 1) for name, values in labels.items()}


def test_a_run_labels_two_stainings_of_one_tissue_alike(pair, tmp_path) -> None:
    asks, does_not = (
        model_with_stain(tmp_path / "asks", WANTED),
        threshold_model(tmp_path / "does-not"),
    )
    found = tumor_share(asks, pair, tmp_path / "out")
    assert found["strong"] == pytest.approx(found["pale"], abs=0.01)
    assert 0.4 < found["pale"] < 0.6
    plain = tumor_share(does_not, pair, tmp_path / "out-plain")
    assert abs(plain["strong"] - plain["pale"]) > 0.2
    for name, amounts in (("strong", (2.0, 1.2)), ("pale", (1.0, 0.7))):
        plan = json.loads((tmp_path / "out" / "slides" / name / "plan.json").read_text())
        assert plan["stain"] == pytest.approx(amounts, abs=0.1)


def test_an_evaluation_changes_stains_as_a_run_does(pair, tmp_path) -> None:
    asks, does_not = (
        model_with_stain(tmp_path / "asks", WANTED),
        threshold_model(tmp_path / "does-not"),
    )
    source = (DataSource(path=pair, mpp=0.5),)
    dice = {}
    for model in (asks, does_not):
        measured = evaluate(
            model, source, tmp_path / f"report-{model.name}", "all", classes="tumor"
        )
        dice[model.name] = measured.metrics["tumor"]["dice"]["value"]
    assert dice["asks"] > 0.95
    assert dice["does-not"] < 0.9


def test_a_training_changes_stains_as_a_run_does(pair, tmp_path, monkeypatch) -> None:
    config = tmp_path / "train.toml"
    config.write_text(
        'classes = "tumor"\nencoder = "resnet18"\nencoder_weights = "none"\nstain = [1.3, 0.6]\n'
        "mpp = 0.5\n"
        "crop_px = 64\nbatch_size = 2\nepochs = 1\nsteps_per_epoch = 1\n"
        "decoder_channels = [16, 8, 8, 8, 8]\n"
        "[split]\ntest = []\nval = []\n"
    )
    settings = load_train_settings(config, [pair], 0.5)
    seen = []

    def noting(job, say):
        seen.extend(stain_amounts([region.rgb]) for region in job.train.open())
        return fit(job, say)

    monkeypatch.setattr(module, "fit", noting)
    result = train(settings, tmp_path / "model", lambda _: None)
    assert seen == [pytest.approx(WANTED, abs=0.02)] * 2
    assert json.loads((result.folder / "card.json").read_text())["stain"] == [1.3, 0.6]
