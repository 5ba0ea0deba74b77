"""Networks of segmentation-models-pytorch: build one from a config, load it, check it, save it.

A config may name only the architectures listed here. Weights are read from safetensors.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.card import ModelCard, check_encoder_name
from noctile.pipeline.models.folder import (
    CONFIG,
    WEIGHTS,
    make_card,
    read_config,
    validate,
    write_card,
    write_config,
)

Architecture = Literal[
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "DeepLabV3",
    "DeepLabV3Plus",
    "PAN",
    "UPerNet",
    "Segformer",
    "Pointwise",
]
"""Architectures that a config may name: classes of segmentation-models-pytorch, and `Pointwise`."""

_FOREIGN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that a constructor or forward pass of another library raises for a wrong config."""

_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
"""Types of weights and counters that are read. The types of 8 bits have no arithmetic."""

_MAX_CHANNELS, _MAX_STAGES = 2048, 16
"""Largest number and longest list in a config. Real configs have up to 1,024 channels in 5 stages.
The memory that a network needs is not known before the network is built."""

_NAMED_AT_ONCE = 3
"""The largest number of tensors that an error names; the others it counts."""


class Pointwise(torch.nn.Conv2d):
    """A 1x1 convolution, which labels each pixel by its own color.

    It costs next to nothing, so benchmarks use it to measure everything except the network.

    Args:
        classes: number of output channels.
        encoder_weights: always None; every architecture has this setting.
        activation: always None; every architecture has this setting.
    """

    def __init__(self, classes: int, encoder_weights: None = None, activation: None = None) -> None:  # noqa: ARG002
        super().__init__(3, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits whose channels lie apart in memory, which is the order that their readers want.

        The fastest way to such logits differs: one matrix product in torch, and one class after
        the other where OpenVINO traces this method. (benchmarks/history/)
        """
        assert self.bias is not None  # noqa: S101 - the constructor makes one
        weight = self.weight.flatten(1)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            r, g, b = x[:, :1], x[:, 1:2], x[:, 2:]
            planes = [
                r * w[0] + (g * w[1] + (b * w[2] + bias))
                for w, bias in zip(weight, self.bias, strict=True)
            ]
            return torch.cat(planes, dim=1)
        weight = torch.cat([weight, self.bias[:, None]], dim=1)
        colors = torch.nn.functional.pad(x.flatten(2), (0, 0, 0, 1), value=1.0)
        return torch.bmm(weight.expand(len(x), -1, -1), colors).view(len(x), -1, *x.shape[2:])


class TilesToLogits(torch.nn.Module):
    """A network with its preprocessing: from uint8 tiles to logits, as one module.

    Backends other than torch convert this module. It computes the same as `TorchPredictor` on the
    CPU before the softmax.

    Args:
        card: the model's card.
        network: a network as for `TorchPredictor`; it stays unchanged, but is put in evaluation
            mode.
    """

    _scale: torch.Tensor
    _shift: torch.Tensor

    def __init__(self, card: ModelCard, network: torch.nn.Module) -> None:
        super().__init__()
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.mean, card.std))
        self.register_buffer("_scale", 1 / (255 * std))
        self.register_buffer("_shift", -mean / std)
        self._network, self._classes = network, len(card.classes)
        self.eval()

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Logits, float32 ``[n, classes, h, w]``, of tiles, uint8 ``[n, h, w, 3]``."""
        logits: torch.Tensor = self._network(
            tiles.permute(0, 3, 1, 2).float() * self._scale + self._shift
        )
        if logits.shape[1] < self._classes:
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
        return logits


class _NetworkConfig(BaseModel):
    """The settings of a config that Noctile checks; the others belong to the architecture."""

    model_config = ConfigDict(extra="allow")

    architecture: Annotated[Architecture, Field(alias="_model_class")]
    # the pattern admits no 'hf-hub:' and no 'local-dir:'
    encoder_name: Annotated[str, AfterValidator(check_encoder_name)] = "resnet34"
    in_channels: Literal[3] = 3
    classes: int = 1
    activation: Literal["identity", "softmax", "softmax2d", "sigmoid"] | None = None
    aux_params: None = None  # would make a second output, for whole tiles

    @model_validator(mode="after")
    def _no_larger_than_any_network(self) -> "_NetworkConfig":
        for name, value in self:
            for number in value if isinstance(value, list | tuple) else [value]:
                if isinstance(number, int | float) and not abs(number) <= _MAX_CHANNELS:
                    raise ValueError(
                        f"{name} is {number}; no network has more than {_MAX_CHANNELS} of anything"
                    )
        for name, value in self.__pydantic_extra__.items() if self.__pydantic_extra__ else ():
            if isinstance(value, list | tuple) and len(value) > _MAX_STAGES:
                raise ValueError(
                    f"{name} has {len(value)} values; no network has more than {_MAX_STAGES} stages"
                )
        return self

    @model_validator(mode="after")
    def _one_class_for_each_pixel(self) -> "_NetworkConfig":
        if self.activation == "sigmoid" and self.classes > 1:
            raise ValueError(
                "sigmoid over several channels lets a pixel have several classes; Noctile gives "
                "it one"
            )
        return self


def build_network(config: Mapping[str, Any], source: Path | str) -> torch.nn.Module:
    """Build the network that a config describes, with random weights.

    The network has no activation, so its output are logits.

    Args:
        config: a config as ``save_pretrained`` of segmentation-models-pytorch writes it.
        source: file, or other origin of the config, to name in an error.

    Raises:
        ModelError: if the config does not describe a network that Noctile can run.
    """
    name = validate(_NetworkConfig, config, source).architecture
    architecture = Pointwise if name == Pointwise.__name__ else getattr(smp, name)
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    _check_settings(architecture, settings, source)
    try:
        network: torch.nn.Module = architecture(
            **{**settings, "encoder_weights": None, "activation": None}
        )
    except _FOREIGN_ERRORS as error:
        raise ModelError(
            f"{source}: {architecture.__name__} refuses it: {type(error).__name__}: {error}"
        ) from error
    return network


def _check_settings(
    architecture: type[torch.nn.Module], settings: Mapping[str, Any], source: Path | str
) -> None:
    """Check that an architecture has all settings of a config."""
    known = [
        p.name
        for p in inspect.signature(architecture).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    if unknown := sorted(settings.keys() - set(known)):
        name = f"{architecture.__name__} of segmentation-models-pytorch {smp.__version__}"
        raise ModelError(
            f"{source}: {name} has no setting {', '.join(unknown)}; it has {', '.join(known)}"
        )


def check_output(network: torch.nn.Module, card: ModelCard) -> None:
    """Check that the output of a network fits its card. No pixel is computed, only shapes.

    Raises:
        ModelError: if the number of channels or the size of the output does not fit.
    """
    side, classes = card.tile_px, len(card.classes)
    try:
        shadow = copy.deepcopy(network).to("meta").eval()
        with torch.no_grad():
            found = tuple(shadow(torch.empty(1, 3, side, side, device="meta")).shape)
    except _FOREIGN_ERRORS as error:
        raise ModelError(
            f"model '{card.name}': its network takes no tiles of {side} px: "
            f"{type(error).__name__}: {error}"
        ) from error
    if classes != (2 if found[1] == 1 else found[1]):
        raise ModelError(
            f"model '{card.name}': its network has {found[1]} output channels, its card {classes} "
            "classes; list a class for each channel (for a single channel two: the class that it "
            "finds, and the rest)"
        )
    if found[2:] != (side, side):
        raise ModelError(
            f"model '{card.name}': tiles of {side} x {side} px come out as "
            f"{found[2]} x {found[3]} px"
        )


def multiply_odds(network: smp.base.SegmentationModel, factors: Sequence[float]) -> None:
    """Multiply the odds of each class against all others, at every pixel.

    This adds the logarithms of the factors to the bias of the last layer.

    Args:
        network: a network with one channel of logits for each class; changed in place.
        factors: one positive factor for each class.
    """
    bias = network.segmentation_head[0].bias
    with torch.no_grad():
        bias += torch.log(torch.tensor(factors, dtype=bias.dtype, device=bias.device))


def load_network(folder: Path) -> torch.nn.Module:
    """The network of a model folder, in float32 for any type of stored weights.

    Nothing is downloaded and nothing is unpickled.

    Raises:
        ModelError: if config and weights do not fit each other; the message names the differences.
    """
    network = build_network(read_config(folder), folder / CONFIG)
    _load_weights(network, folder / WEIGHTS)
    return network


def save_model(
    folder: Path,
    network: smp.base.SegmentationModel,
    fields: Mapping[str, Any],
    *,
    half: bool = False,
) -> ModelCard:
    """Write a model folder, with the config and weights that ``save_pretrained`` would write.

    Args:
        folder: the folder to write; it is made if it does not exist.
        network: a network of one of the types in `Architecture`.
        fields: fields of `ModelCard`, all but ``sha256``, which is computed here.
        half: store the weights as float16: half the size, about three significant digits.

    Raises:
        ModelError: if the fields do not make a card, the network does not fit it, or a weight is
            not finite as stored.
    """
    config = {**network.config, "_model_class": type(network).__name__, "encoder_weights": None}
    build_network(config, "the network")
    check_output(network, make_card(fields, "0" * 64))
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in network.state_dict().items()
    }
    _check_numbers(state, "the network as stored")
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors lets only the owner read its file
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)
    return write_card(folder, fields)


def _load_weights(network: torch.nn.Module, path: Path) -> None:
    """Load the weights in a file into a network."""
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    expected = network.state_dict()
    faults = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - expected.keys()),
        "different": [
            f"{key} is {_describe(weights[key])} where the network has {_describe(expected[key])}"
            for key in sorted(expected.keys() & weights.keys())
            if not _same_kind(weights[key], expected[key])
        ],
    }
    if any(faults.values()):
        lines = [_list_names(k, v) for k, v in faults.items() if v]
        raise ModelError("\n".join([f"{path} does not fit {CONFIG}:", *lines]))
    _check_numbers(weights, path)
    network.load_state_dict(weights)


def _check_numbers(weights: Mapping[str, torch.Tensor], source: Path | str) -> None:
    """Check that all weights have a known type and are finite."""
    if unknown := [key for key, tensor in weights.items() if tensor.dtype not in _DTYPES]:
        raise ModelError(
            f"{source} holds numbers of a type that is not read:\n{_list_names('tensors', unknown)}"
        )
    if broken := [key for key, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise ModelError(
            f"{source} holds values that are not finite:\n{_list_names('tensors', broken)}"
        )


def _same_kind(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _list_names(what: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED_AT_ONCE else ""
    return f"  {len(names)} {what}: {', '.join(names[:_NAMED_AT_ONCE])}{more}"
