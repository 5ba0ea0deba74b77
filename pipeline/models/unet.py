"""Networks of segmentation-models-pytorch: built from a whitelist, filled from safetensors, run tile by tile or in batches."""

import copy
import inspect
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
import torch

from pipeline.errors import ModelError
from pipeline.models.card import ModelCard, UInt8
from pipeline.models.load import CONFIG, WEIGHTS, card_of, check_tiles, read_config, write_card, write_config

ARCHITECTURES = (
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet", "Segformer",
)  # fmt: skip
"""Classes of segmentation-models-pytorch that a config may name; nothing else is ever looked up by name."""

_ENCODER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
"""No ``hf-hub:`` and no ``local-dir:``, which would make timm fetch a network from elsewhere."""

_SOFTMAX_LIKE = (None, "identity", "softmax", "softmax2d")
"""Activations after which the softmax of the logits is what the network means. They are left out; softmax is taken here."""

_BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What constructors and forward passes of other people's code raise when a config does not suit them."""

_NAMED_AT_ONCE = 3


class UNetPredictor:
    """A network that looks at tiles. Safe to call from several threads.

    On the CPU each tile is a forward pass of its own, on one core, and ``threads`` of them run at once. So a tile's
    probabilities are the same bits whatever batch and process it is in and however many cores there are; the last bits of
    torch's convolutions depend on both batch size and thread count. It is no slower (benchmarks/RESULTS.md). On a GPU a
    batch is one forward pass, its convolutions in float16.

    Args:
        card: of the model.
        network: RGB in, one channel of logits for each class out; or a single channel, the logit of the first of two.
        device: torch's name of it.
        threads: tiles at once on the CPU; None: as many as torch takes threads.

    Raises:
        ModelError: if the network's output does not fit the card.
    """

    def __init__(self, card: ModelCard, network: torch.nn.Module, device: str = "cpu", threads: int | None = None) -> None:
        _check_output(network, card)
        self._card, self._device = card, torch.device(device)
        self._network = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        mean, std = (torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (card.mean, card.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._pool: ThreadPoolExecutor | None = None
        if self._device.type == "cpu":
            n = threads or torch.get_num_threads()
            self._pool = ThreadPoolExecutor(n, "noctile-tiles", initializer=torch.set_num_threads, initargs=(1,))

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._card

    def __call__(self, tiles: UInt8) -> torch.Tensor:
        """See `Predictor`; float32 on the predictor's device.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        check_tiles(tiles, self._card)
        batch = torch.from_numpy(np.require(tiles, requirements=("C", "W")))
        if self._pool is None:
            return self._probabilities(batch)
        return torch.cat(list(self._pool.map(self._probabilities, batch.split(1))))

    @torch.no_grad()  # not inference_mode: whoever gets the result may change it in place
    def _probabilities(self, tiles: torch.Tensor) -> torch.Tensor:
        pixels = tiles.to(self._device).permute(0, 3, 1, 2)  # channels last already
        with torch.autocast(self._device.type, torch.float16, enabled=self._device.type == "cuda"):
            logits = self._network(torch.addcmul(self._shift, pixels, self._scale)).float()
        if logits.shape[1] < len(self._card.classes):
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)  # softmax of (x, 0) is sigmoid of x, and the rest
        return torch.softmax(logits, dim=1)


def load_unet(folder: Path, card: ModelCard, device: str = "cpu", threads: int | None = None) -> UNetPredictor:
    """The model of a folder, in float32 whatever its weights are stored in. Nothing is downloaded, nothing unpickled.

    Raises:
        ModelError: if config, weights and card do not fit each other; the message says where.
    """
    network = build_network(read_config(folder), folder / CONFIG)
    _fill(network, folder / WEIGHTS)
    return UNetPredictor(card, network, device, threads)


def save_model(folder: Path, network: smp.base.SegmentationModel, fields: Mapping[str, Any], *, half: bool = False) -> ModelCard:
    """Write a model folder; config and weights are what the network's own ``save_pretrained`` writes.

    Args:
        folder: made where it is missing.
        network: one of `ARCHITECTURES`.
        fields: of `ModelCard`, all but ``sha256``.
        half: store the weights as float16: half the size, and about three significant digits.

    Raises:
        ModelError: if the fields do not make a card, the network does not fit it, or a weight is not finite as stored.
    """
    config = {**network.config, "_model_class": type(network).__name__, "encoder_weights": None}
    build_network(config, "the network's config")
    _check_output(network, card_of(fields, "0" * 64))
    state = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in network.state_dict().items()
    }
    _check_finite(state, "the network as stored")
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    return write_card(folder, fields)


def build_network(config: Mapping[str, Any], where: Path | str) -> torch.nn.Module:
    """A network as ``config`` describes it, with random weights.

    Args:
        config: what ``save_pretrained`` of segmentation-models-pytorch writes.
        where: names the config in errors.

    Raises:
        ModelError: if the config names no network that Noctile runs.
    """
    settings = _settings(config, where)
    try:
        network: torch.nn.Module = getattr(smp, config["_model_class"])(**settings)
    except _BUILD_ERRORS as error:
        raise ModelError(
            f"{where}: segmentation-models-pytorch {smp.__version__} cannot build it: {type(error).__name__}: {error}"
        ) from error
    return network


def _settings(config: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    """Arguments for the constructor; never pretrained weights, never an activation."""
    if (name := config.get("_model_class")) not in ARCHITECTURES:
        raise ModelError(f"{where}: _model_class is {name!r}, not one of {', '.join(ARCHITECTURES)}")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    parameters = inspect.signature(getattr(smp, name)).parameters.values()
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if strange := sorted(settings.keys() - set(known)):
        raise ModelError(f"{where}: {name} has no setting {', '.join(strange)}; it has {', '.join(known)}")
    for key, good, why in (
        ("encoder_name", lambda v: isinstance(v, str) and _ENCODER_NAME.fullmatch(v), "must be a plain name"),
        ("in_channels", lambda v: v == 3, "must be 3: tiles are RGB"),
        ("activation", lambda v: v in _SOFTMAX_LIKE or v == "sigmoid" and settings.get("classes", 1) == 1,
         "means something else than one class for each pixel"),
        ("aux_params", lambda v: v is None, "adds an output for whole tiles, which Noctile has no use for"),
    ):  # fmt: skip
        if key in settings and not good(settings[key]):
            raise ModelError(f"{where}: {key} is {settings[key]!r}; it {why}")
    return {**settings, "encoder_weights": None, "activation": None}


def _fill(network: torch.nn.Module, path: Path) -> None:
    """Give a network its weights, each in its place."""
    try:
        weights = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    expected = network.state_dict()
    faults = {
        "missing": sorted(expected.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - expected.keys()),
        "different": [
            f"{key} ({_describe(weights[key])}, the network's is {_describe(expected[key])})"
            for key in sorted(expected.keys() & weights.keys())
            if weights[key].shape != expected[key].shape
            or weights[key].is_floating_point() != expected[key].is_floating_point()
        ],
    }
    if any(faults.values()):
        raise ModelError("\n".join([f"{path} does not fit {CONFIG}:", *(_count(k, v) for k, v in faults.items() if v)]))
    _check_finite(weights, path)
    network.load_state_dict(weights)


def _check_finite(weights: Mapping[str, torch.Tensor], where: Path | str) -> None:
    if broken := [key for key, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise ModelError("\n".join([f"{where} holds values that are no numbers (NaN, or too large):", _count("tensors", broken)]))


def _check_output(network: torch.nn.Module, card: ModelCard) -> None:
    """Send the shape of a tile through the network, without its pixels, and see what comes out."""
    side, classes = card.tile_px, len(card.classes)
    try:
        shadow = copy.deepcopy(network).to("meta").eval()
        with torch.no_grad():
            found = tuple(shadow(torch.empty(1, 3, side, side, device="meta")).shape)
    except _BUILD_ERRORS as error:
        raise ModelError(
            f"model '{card.name}': the network does not take tiles of {side} px: {type(error).__name__}: {error}"
        ) from error
    if found[1] != classes and (found[1], classes) != (1, 2):
        raise ModelError(
            f"model '{card.name}': the network has {found[1]} output channels, the card {classes} classes; list one class for "
            "each channel (two for a network with a single channel: what it finds, and the rest)"
        )
    if found[2:] != (side, side):
        raise ModelError(f"model '{card.name}': tiles of {side} x {side} px come out as {found[2]} x {found[3]} px")


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _count(what: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED_AT_ONCE else ""
    return f"  {len(names)} {what}: {', '.join(names[:_NAMED_AT_ONCE])}{more}"
