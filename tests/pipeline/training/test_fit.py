"""The loop learns, resumes exactly, and trains in several processes; encoders get the weights they
are promised."""

from contextlib import closing

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.folder import read_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.training import encoder as encoders
from noctile.pipeline.training.augment import Variation
from noctile.pipeline.training.encoder import LITE0, fill_encoder
from noctile.pipeline.training.losses import SegmentationLoss
from noctile.pipeline.training.network import new_network
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.find import DataSource
from noctile.pipeline.truth.scheme import IGNORED, load_scheme
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
    """A training that nobody stopped."""
    return train(small(regions), tmp_path_factory.mktemp("whole") / "model", lambda _: None)


class TestResume:
    @pytest.mark.parametrize("killed_in", [1, 2, 3, 4])
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


def test_odds_of_what_is_no_class_are_refused(regions, tmp_path):
    with pytest.raises(
        UsageError, match="odds are given of tumour, which is no class of scheme tumor"
    ):
        train(small(regions, odds={"tumour": 3.0}), tmp_path, print)


def test_a_batch_that_does_not_divide_by_the_processes_is_refused(regions, tmp_path):
    with pytest.raises(UsageError, match="multiple"):
        train(small(regions, batch_size=3, processes=2), tmp_path, print)


def test_eight_real_tiles_are_learned_by_heart(shared_data, tmp_path):
    """Out of two regions with different stains; Dice over all pixels of the eight tiles."""
    data = tmp_path / "tiles"
    tiles = []
    for name, places in (
        ("1008", ((0, 0), (512, 1024), (1536, 512), (1024, 2048))),
        ("1015", ((0, 0), (0, 2560), (1024, 3072), (512, 2048))),
    ):
        with closing(
            open_slide(shared_data / "bcss" / "images" / f"{name}.jpg", mpp=0.25)
        ) as reader:
            image = Image.fromarray(
                reader.read(reader.info.frame.box, 0.25)
            )  # its channels are put right
        mask = Image.open(shared_data / "bcss" / "masks" / f"{name}.jpg").convert("L")
        for y, x in places:
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
        batch_size=4,
        epochs=1,
        steps_per_epoch=280,
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
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


class TestNetwork:
    def test_resnet34_unet_of_21_classes_has_24_439_269_parameters(self):
        network = new_network(TrainSettings(), len(load_scheme("bcss21").classes))
        assert sum(p.numel() for p in network.parameters()) == 24_439_269

    def test_vgg16_and_another_decoder_are_one_setting_away(self):
        assert isinstance(new_network(TrainSettings(encoder="vgg16_bn"), 5), smp.Unet)
        assert isinstance(new_network(TrainSettings(architecture="FPN"), 5), smp.FPN)


class TestEncoderWeights:
    def test_lite0_starts_from_imagenet_without_a_network(self):
        network = new_network(TrainSettings(encoder=LITE0), 2)
        before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
        assert "ImageNet" in fill_encoder(network, LITE0, "imagenet")
        after = network.encoder.state_dict()
        assert all((after[k] != before[k]).any() for k in after if k.endswith("conv_stem.weight"))
        rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert all(torch.isfinite(f).all() for f in network.encoder(rgb))

    def test_without_a_network_the_message_says_what_else_there_is(self, monkeypatch):
        def offline(*_, **__):
            raise OSError("Name or service not known")

        monkeypatch.setattr(encoders.smp.encoders, "get_encoder", offline)
        with pytest.raises(UsageError, match=r"downloaded.*--encoder-weights PATH or none"):
            fill_encoder(new_network(TrainSettings(), 2), "resnet34", "imagenet")

    def test_a_file_fills_the_encoder_to_the_last_tensor(self, tmp_path):
        one, other = (new_network(TrainSettings(encoder="resnet18"), 2) for _ in range(2))
        torch.save(one.state_dict(), tmp_path / "model.pt")
        assert fill_encoder(other, "resnet18", str(tmp_path / "model.pt")) == "model.pt"
        for a, b in zip(
            one.encoder.state_dict().values(), other.encoder.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("content", [b"no weights", b""])
    def test_a_file_that_holds_no_weights_is_named(self, tmp_path, content):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(UsageError, match=r"w\.pt"):
            fill_encoder(
                new_network(TrainSettings(encoder="resnet18"), 2),
                "resnet18",
                str(tmp_path / "w.pt"),
            )

    def test_weights_of_another_encoder_do_not_fit(self, tmp_path):
        torch.save(
            new_network(TrainSettings(encoder="resnet18"), 2).state_dict(), tmp_path / "w.pt"
        )
        with pytest.raises(UsageError, match="do not fit"):
            fill_encoder(new_network(TrainSettings(), 2), "resnet34", str(tmp_path / "w.pt"))


class TestLoss:
    def test_ignored_pixels_change_nothing(self):
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 3, 8, 8, generator=generator)
        targets = torch.randint(0, 3, (2, 8, 8), generator=generator, dtype=torch.uint8)
        targets[:, :4] = IGNORED
        loss = SegmentationLoss((1, 2, 3), 1.0, 0.0)
        before = loss(logits, targets)
        logits[:, :, :4] = 100 * torch.randn(2, 3, 4, 8, generator=generator)
        assert loss(logits, targets).item() == pytest.approx(before.item(), rel=1e-5)

    def test_weighs_classes_as_cross_entropy_does(self):
        generator = torch.Generator().manual_seed(1)
        logits = torch.randn(1, 3, 8, 8, generator=generator)
        targets = torch.randint(0, 3, (1, 8, 8), generator=generator)
        expected = torch.nn.functional.cross_entropy(logits, targets, torch.tensor([1.0, 2.0, 3.0]))
        found = SegmentationLoss((1, 2, 3), 0.0, 0.0)(logits, targets)
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_a_batch_in_which_nothing_has_a_class_costs_nothing_and_is_finite(self):
        targets = torch.full((1, 8, 8), IGNORED, dtype=torch.uint8)
        assert SegmentationLoss((1, 1), 1.0, 0.0)(torch.zeros(1, 2, 8, 8), targets) == 0
