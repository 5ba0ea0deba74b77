"""The network of a training is built from its settings, and its rate and average are updated."""

import pytest
import segmentation_models_pytorch as smp
import torch

from noctile.pipeline.training.network import (
    MEAN,
    STD,
    freeze_statistics,
    learning_rate,
    new_network,
    to_input,
    update_average,
)
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.scheme import load_scheme


class TestNetwork:
    def test_resnet34_unet_of_21_classes_has_24_439_269_parameters(self):
        network = new_network(TrainSettings(), len(load_scheme("bcss21").classes))
        assert sum(p.numel() for p in network.parameters()) == 24_439_269

    def test_vgg16_and_another_decoder_are_one_setting_away(self):
        assert isinstance(new_network(TrainSettings(encoder="vgg16_bn"), 5), smp.Unet)
        assert isinstance(new_network(TrainSettings(architecture="FPN"), 5), smp.FPN)


def test_the_rate_rises_over_the_first_steps_and_falls_to_zero() -> None:
    settings = TrainSettings(rate=1.0, warmup_steps=4)
    rates = [learning_rate(settings, step, 100) for step in range(101)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[0] == pytest.approx(0.2)
    assert rates[100] == pytest.approx(0.0)


def test_pixels_are_normalized_and_channels_come_first() -> None:
    rgb = torch.full((1, 2, 3, 3), 255, dtype=torch.uint8)
    found = to_input(rgb, torch.device("cpu"))
    assert found.shape == (1, 3, 2, 3)
    expected = [(1 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    assert found[0, :, 0, 0].tolist() == pytest.approx(expected)


def test_the_average_is_a_plain_mean_at_first_and_then_follows_with_its_decay() -> None:
    average, network = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, value in ((average, 0.0), (network, 1.0)):
        torch.nn.init.constant_(module.weight, value)
    update_average(average, network, step=0, decay=0.99)
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, network, step=10_000, decay=0.5)
    assert average.weight.item() == pytest.approx(0.95)


def test_frozen_batch_norms_keep_their_statistics() -> None:
    encoder = torch.nn.Sequential(torch.nn.BatchNorm2d(2)).train()
    freeze_statistics(encoder)
    encoder(5 + torch.randn(4, 2, 8, 8))
    assert encoder[0].running_mean.tolist() == [0, 0]
