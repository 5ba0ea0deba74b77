"""Network of a training: how it is built, fed, updated and averaged."""

import math
from typing import Any

import segmentation_models_pytorch as smp
import torch

from noctile.pipeline.models.network import build_network
from noctile.pipeline.training.settings import TrainSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's R, G, B in 0..1, with which encoders were trained.
(torchvision's documentation)"""


def new_network(settings: TrainSettings, classes: int) -> smp.base.SegmentationModel:
    """Build the network of a training, with random weights.

    Args:
        settings: settings of the training.
        classes: number of output channels.

    Raises:
        ModelError: if segmentation-models-pytorch has no such network.
    """
    config: dict[str, Any] = {
        "_model_class": settings.architecture,
        "encoder_name": settings.encoder,
        "in_channels": 3,
        "classes": classes,
    }
    if settings.decoder_channels:
        config["decoder_channels"] = settings.decoder_channels
    return build_network(config, "the training's settings")


def to_input(rgb: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Turn pixels into the network's input.

    Args:
        rgb: uint8 ``[n, h, w, 3]``.
        device: device of the result.

    Returns:
        Normalized float32 ``[n, 3, h, w]``.
    """
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (rgb.to(device).permute(0, 3, 1, 2).float() / 255 - mean) / std


def make_optimizer(
    network: smp.base.SegmentationModel, settings: TrainSettings
) -> torch.optim.Optimizer:
    """Make an AdamW optimizer with a lower rate for the encoder, which is trained already.

    (Loshchilov and Hutter 2019, arXiv 1711.05101)
    """
    encoder = list(network.encoder.parameters())
    known = {id(parameter) for parameter in encoder}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    groups = [
        {"params": encoder, "relative": settings.encoder_rate},
        {"params": rest, "relative": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.decay)


def learning_rate(settings: TrainSettings, step: int, last_step: int) -> float:
    """Learning rate of the decoder at a step: a linear rise, then half a cosine.

    (Loshchilov and Hutter 2017, arXiv 1608.03983)

    Args:
        settings: settings of the training.
        step: number of the step, from 0.
        last_step: number of steps in the whole training.
    """
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return settings.rate * warm * 0.5 * (1 + math.cos(math.pi * step / last_step))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the decoder's learning rate, and the encoder's in proportion to it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["relative"]


@torch.no_grad()
def update_average(
    average: torch.nn.Module, network: torch.nn.Module, step: int, decay: float
) -> None:
    """Move the average of the weights towards the weights of a network.

    Args:
        average: network that holds the moving average; changed in place.
        network: network that is trained.
        step: number of steps so far; over the first steps the average is the plain mean.
        decay: decay of the average in each later step.
    """
    keep = min(decay, (1 + step) / (10 + step))
    weights = network.state_dict()
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(weights[name], 1 - keep)
        else:
            mean.copy_(weights[name])


def freeze_statistics(encoder: torch.nn.Module) -> None:
    """Keep the running statistics of all batch norms of an encoder as they are."""
    for module in encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
