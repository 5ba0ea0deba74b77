"""The loop learns, resumes exactly, and trains in several processes."""

from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.folder import read_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.training.augment import Variation
from noctile.pipeline.training.encoder import LITE0
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.find import DataSource
from noctile.pipeline.truth.split import SplitSpec
from noctile.workflows.commands.train import train
from sample_slides.make_regions import write_regions

STILL = Variation(scale=1, stain=0, hue=0, grey=0, light=0, blur=0, noise=0)


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    """Six generated patients in the layout of official BCSS."""
    out = tmp_path_factory.mktemp("study") / "bcss"
    write_regions(out, range(2000, 2006), 256, 0.5)
    return out


def small(regions, **changes) -> TrainSettings:
    settings = {
        "data": (DataSource(path=regions),),
        "split": SplitSpec(by="patient"),
        "classes": "tumor",
        "encoder": "resnet18",
        "encoder_weights": "none",
        "decoder_channels": (16, 8, 8, 8, 8),
        "crop_px": 64,
        "tile_px": 64,
        "overlap_px": 0,
        "batch_size": 4,
        "steps_per_epoch": 3,
        "epochs": 4,
        "device": "cpu",
    }
    return TrainSettings(**(settings | changes))


def weights_of(folder) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def losses_of(result) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


@pytest.fixture(scope="module")
def whole(regions, tmp_path_factory):
    """A training that was not stopped."""
    return train(small(regions), tmp_path_factory.mktemp("whole") / "model", lambda _: None)


class TestResume:
    @pytest.mark.parametrize(
        "killed_in", [1, 3, *(pytest.param(epoch, marks=pytest.mark.long) for epoch in (2, 4))]
    )
    def test_a_training_killed_in_any_epoch_and_resumed_ends_with_the_same_weights(
        self, regions, whole, tmp_path, killed_in
    ):
        def kill(line):
            if line.startswith(f"epoch {killed_in} of"):  # before the epoch's checkpoint is written
                raise KeyboardInterrupt

        out = tmp_path / "model"
        with pytest.raises(KeyboardInterrupt):
            train(small(regions), out, kill)
        resumed = train(small(regions), out, lambda _: None, resume=True)
        assert weights_of(out) == weights_of(whole.folder)
        assert losses_of(resumed) == losses_of(whole)

    def test_a_finished_model_keeps_no_scratch_files(self, whole):
        names = {path.name for path in whole.folder.iterdir()}
        assert names == {
            *(
                "card.json",
                "config.json",
                "model.safetensors",
                "scheme.toml",
                "split.csv",
                "history.csv",
                "curves.png",
            )
        }

    def test_another_training_is_not_resumed(self, regions, tmp_path):
        def kill(line):
            if line.startswith("epoch 2 of"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(small(regions), tmp_path, kill)
        with pytest.raises(UsageError, match="Use --resume to go on"):
            train(small(regions), tmp_path, print)
        with pytest.raises(UsageError, match="other settings or other data"):
            train(small(regions, rate=1e-4), tmp_path, print, resume=True)

    def test_a_finished_model_is_not_trained_over(self, regions, whole):
        with pytest.raises(UsageError, match="finished model"):
            train(small(regions), whole.folder, print, resume=True)


def test_several_processes_learn_what_one_does(regions, tmp_path):
    settings = small(regions, epochs=2, frozen_statistics=True, dice=0.0, class_weights="none")
    one = train(settings, tmp_path / "one", lambda _: None)
    lines: list[str] = []
    two = train(settings.model_copy(update={"processes": 2}), tmp_path / "two", lines.append)
    for a, b in zip(losses_of(one), losses_of(two), strict=True):
        assert b == pytest.approx(a, rel=0.05)
    assert sum(line.startswith("epoch") for line in lines) == 2


def test_patience_ends_a_training_that_no_longer_improves(regions, tmp_path):
    result = train(
        small(regions, epochs=30, patience=2, rate=1e-12, average=0.0),
        tmp_path / "m",
        lambda _: None,
    )
    assert len(result.history) < 30
    assert len(result.history) - result.best_epoch == 2


def test_odds_are_multiplied_into_the_model_that_is_written_and_nothing_else_changes(
    regions, whole, tmp_path
):
    result = train(small(regions, odds={"tumor": 3.0}), tmp_path / "m", lambda _: None)
    assert losses_of(result) == losses_of(whole)
    tiles = np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), np.uint8)
    plain, shifted = (
        np.asarray(load_predictor(f, "cpu")(tiles))[:, 0] for f in (whole.folder, result.folder)
    )
    np.testing.assert_allclose(shifted / (1 - shifted), 3 * plain / (1 - plain), rtol=1e-4)
    assert read_card(result.folder).training["odds"] == {"tumor": 3.0}


def test_odds_of_an_unknown_class_are_refused(regions, tmp_path):
    with pytest.raises(
        UsageError, match="odds are given of tumour, which is no class of scheme tumor"
    ):
        train(small(regions, odds={"tumour": 3.0}), tmp_path, print)


def test_a_batch_that_does_not_divide_by_the_processes_is_refused(regions, tmp_path):
    with pytest.raises(UsageError, match="multiple"):
        train(small(regions, batch_size=3, processes=2), tmp_path, print)


@pytest.mark.parametrize(
    ("of_each", "steps", "dice"),
    [(1, 90, 0.9), pytest.param(4, 280, 0.95, marks=pytest.mark.long)],
)
def test_real_tiles_are_learned(shared_data, tmp_path, of_each, steps, dice):
    """Out of two regions with different stains; Dice over all pixels of the tiles."""
    data = tmp_path / "tiles"
    tiles = []
    for name, places in (
        ("1008", ((512, 1024), (0, 0), (1536, 512), (1024, 2048))),
        ("1015", ((0, 2560), (0, 0), (1024, 3072), (512, 2048))),
    ):
        with closing(
            open_slide(shared_data / "bcss" / "images" / f"{name}.jpg", mpp=0.25)
        ) as reader:
            image = Image.fromarray(
                reader.read(reader.info.frame.box, 0.25)
            )  # its channels are put right
        mask = Image.open(shared_data / "bcss" / "masks" / f"{name}.jpg").convert("L")
        for y, x in places[:of_each]:
            box = (x, y, x + 512, y + 512)
            pixels = image.crop(box).reduce(2)
            truth = mask.crop(box).reduce(2).point(lambda v: 255 * (v > 127))
            for folder, picture in (("images", pixels), ("masks", truth)):
                (data / folder).mkdir(parents=True, exist_ok=True)
                picture.save(data / folder / f"{name}_{y}_{x}.png")
            tiles.append((np.asarray(pixels), np.asarray(truth) > 0))
    settings = TrainSettings(
        data=(DataSource(path=data, mpp=0.5),),
        split=SplitSpec(test=(), val=()),
        classes="tumor",
        encoder=LITE0,
        decoder_channels=(48, 32, 24, 16, 8),
        crop_px=256,
        tile_px=256,
        overlap_px=0,
        batch_size=2 * min(of_each, 2),
        epochs=1,
        steps_per_epoch=steps,
        rate=6e-3,
        encoder_rate=0.5,
        average=0.8,
        variation=STILL,
        device="cpu",
    )
    result = train(settings, tmp_path / "model", lambda _: None)
    predict = load_predictor(result.folder, "cpu")
    found = np.asarray(predict(np.stack([rgb for rgb, _ in tiles])))[:, 0] > 0.5
    truth = np.stack([mask for _, mask in tiles])
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > dice
