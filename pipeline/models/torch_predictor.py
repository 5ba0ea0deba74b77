"""Networks of segmentation-models-pytorch: built from a whitelist, filled from safetensors, ready
to look at tiles.
"""

import copy
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.cuda_labels import LabelsOnGpu, labels_on_gpu
from noctile.pipeline.models.load import (
    CONFIG,
    WEIGHTS,
    card_of,
    check_tiles,
    read_config,
    validated,
    write_card,
    write_config,
)
from noctile.pipeline.models.pixel_labels import (
    PixelLabels,
    empty_pixel_labels,
    labels_from_logits,
    tumor_channels,
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
"""Classes of segmentation-models-pytorch that a config may name, and `Pointwise`; nothing else is
looked up by name."""

_FOREIGN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What other people's constructors and forward passes raise when a config does not suit them."""

_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
"""Of weights and counters; the kinds of 8 bits have no arithmetic."""

_BATCHES = (16, 8, 4, 2)
"""Sizes that a batch on a GPU may have; 32 tiles of 512 px at once are a tenth quicker than 16 in
one stream, but two streams of them only 1 % quicker than three of 16. (benchmarks/RESULTS.md)"""

_HALVED = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
"""Layers whose weights autocast would make float16 anew for each batch. Not what inherits from
them: it may compute with its weights first."""

_MAX_CHANNELS, _MAX_STAGES = 2048, 16
"""Largest number and longest list in a config: real ones have up to 1,024 channels in 5 stages.
What it takes to build a network is not known before it is built."""

_NAMED_AT_ONCE = 3
"""How many tensors an error names before it counts the rest."""


_Answer = TypeVar("_Answer")


class Pointwise(torch.nn.Conv2d):
    """A 1x1 convolution: each pixel by its own colour. To measure what everything but the network
    costs.

    Args:
        classes: channels that come out.
        encoder_weights: None; here because every architecture has it.
        activation: likewise.
    """

    def __init__(self, classes: int, encoder_weights: None = None, activation: None = None) -> None:  # noqa: ARG002
        super().__init__(3, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits whose channels lie apart in memory, as all that follows reads them.

        What quickest makes such: in torch one product of matrices, and where OpenVINO traces it,
        class by class. (benchmarks/RESULTS.md)
        """
        assert self.bias is not None  # noqa: S101 - made with one
        weight = self.weight.flatten(1)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            r, g, b = x[:, :1], x[:, 1:2], x[:, 2:]
            planes = [
                r * w[0] + (g * w[1] + (b * w[2] + bias))
                for w, bias in zip(weight, self.bias, strict=True)
            ]
            return torch.cat(planes, dim=1)
        weight = torch.cat([weight, self.bias[:, None]], dim=1)
        colours = torch.nn.functional.pad(x.flatten(2), (0, 0, 0, 1), value=1.0)
        return torch.bmm(weight.expand(len(x), -1, -1), colours).view(len(x), -1, *x.shape[2:])


class UNetPredictor:
    """A network that looks at tiles. Safe to call from several threads.

    On the CPU each tile is a forward pass of its own on one core, and ``threads`` of them run at
    once. So, on one kind of CPU, a tile's probabilities are the same bits in any batch, process and
    number of cores, which they are not otherwise: torch picks its convolutions by batch size and
    thread count. It costs nothing: a ResNet-34 U-Net of 21 classes on 2 cores took 376 ms for a
    tile of 512 px at best, against 391 with both cores in each pass and 442 in batches of 4; beside
    other work the median was 419 ms against 1268 and more, since cores in one pass wait for each
    other.

    On a GPU a batch is one forward pass, its convolutions in float16. Each thread that calls has a
    stream of its own, in which all that it does stands in line: tiles go up from pinned memory, and
    nothing waits for the GPU until somebody asks for a result. So the next tiles are read while
    these are computed.

    Args:
        card: of the model.
        network: taken over. RGB in; out comes a channel of logits for each class, or one channel
            for a card with two classes: the logit of the first.
        device: torch's name of it.
        threads: tiles at once on the CPU; None: as many as torch takes threads.
        compiled: let ``torch.compile`` fuse the network's steps, which takes a minute at the first
            batch; batches are filled up to ``batch_size``, since each size would be compiled anew.
            On a GPU only.
        processes_per_gpu: processes or threads that do the same on one GPU, and share its memory.

    Raises:
        ModelError: if what comes out does not fit the card.
    """

    def __init__(
        self,
        card: ModelCard,
        network: torch.nn.Module,
        device: str = "cpu",
        threads: int | None = None,
        *,
        compiled: bool = False,
        processes_per_gpu: int = 1,
    ) -> None:
        check_output(network, card)
        self._card, self._device = card, torch.device(device)
        self._network: Callable[[torch.Tensor], torch.Tensor]
        if self._device.type == "cuda":
            for layer in network.modules():
                if type(layer) in _HALVED:
                    layer.half()
        self._network = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        mean, std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (card.mean, card.std)
        )
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._pool: ThreadPoolExecutor | None = None
        self._kernel: LabelsOnGpu | None = None
        if self._device.type == "cpu":
            self._batch_size = threads or torch.get_num_threads()
            self._pool = ThreadPoolExecutor(
                self._batch_size, "tiles", initializer=torch.set_num_threads, initargs=(1,)
            )
            return
        self._streams = threading.local()
        self._filled = compiled
        self._compiling = (
            threading.Lock() if compiled else nullcontext()
        )  # torch compiles in one thread at a time
        self._kernel = labels_on_gpu(len(card.classes), tumor_channels(card), self._device)
        self._batch_size = self._fitting_batch(processes_per_gpu)
        if compiled:
            self._logits = torch.compile(self._logits, dynamic=False)  # type: ignore[method-assign]

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._card

    @property
    def batch_size(self) -> int:
        """Tiles to look at together: one for each thread on the CPU, what free memory holds on a
        GPU.
        """
        return self._batch_size

    def __call__(self, tiles: UInt8) -> torch.Tensor:
        """See `Predictor`; float32 on the predictor's device.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        batch = self._checked(tiles)
        if self._pool is None:
            return self._on_gpu(batch, self._probabilities)[: len(batch)]
        done = list(self._pool.map(self._probabilities, torch.split(batch, 1)))
        return (
            torch.cat(done) if len(done) > 1 else done[0]
        )  # to copy 21 classes of a tile takes 11 ms

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """See `predict_labels`; on the CPU each tile's logits are gone before the next tile's are there.

        Raises:
            ValueError: if the tiles are not what the card says.
        """
        batch = self._checked(tiles)
        if self._pool is None:
            fields = self._on_gpu(batch, partial(self._decided, part=part))
            return PixelLabels(*(values[: len(batch)] for values in fields))
        tumor = tumor_channels(self._card)
        decision = empty_pixel_labels(len(batch), len(range(self._card.tile_px)[part]))

        def one(k: int) -> None:
            labels_from_logits(
                self._logits(batch[k : k + 1])[0, :, part, part].numpy(), tumor, decision, k
            )

        list(self._pool.map(one, range(len(batch))))
        return decision

    def _checked(self, tiles: UInt8) -> torch.Tensor:
        check_tiles(tiles, self._card)
        return torch.from_numpy(np.require(tiles, requirements=("C", "W")))

    def _on_gpu(self, tiles: torch.Tensor, look: Callable[[torch.Tensor], _Answer]) -> _Answer:
        """What is said of tiles in the machine's memory, and of those that fill up their batch."""
        if not hasattr(
            self._streams, "own"
        ):  # what the caller does next with the result stands in this stream, too
            self._streams.own = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            torch.cuda.set_stream(self._streams.own)
        missing = self._batch_size - len(tiles) if self._filled else 0
        if missing > 0:
            tiles = torch.cat([tiles, tiles.new_zeros(missing, *tiles.shape[1:])])
        there = tiles.pin_memory().to(self._device, non_blocking=True)
        with self._compiling:
            return look(there)

    def _probabilities(self, tiles: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self._logits(tiles), dim=1, dtype=torch.float32)

    def _decided(
        self, tiles: torch.Tensor, part: slice
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The fields of a `PixelLabels`; the same as of `_probabilities`, but only where it is
        asked for.
        """
        logits = self._logits(tiles)[:, :, part, part]
        if self._kernel is not None:
            winner, likely, confidence = self._kernel(logits)
            return winner, likely, confidence
        logits = logits.contiguous()  # across channels that lie apart, all is quicker
        shares = torch.softmax(logits, dim=1, dtype=torch.float32)
        of_tumor = shares[:, tumor_channels(self._card)].sum(dim=1)
        likely, confidence = (
            torch.nan_to_num(p * 255).round().clamp(0, 255).to(torch.uint8)
            for p in (of_tumor, shares.amax(dim=1))
        )
        return logits.argmax(dim=1).to(torch.uint8), likely, confidence

    @torch.no_grad()  # not inference_mode, whose tensors nobody may change in place afterwards
    def _logits(self, tiles: torch.Tensor) -> torch.Tensor:
        """Float32 on the CPU, float16 on a GPU."""
        pixels = (
            tiles.permute(0, 3, 1, 2).float() * self._scale + self._shift
        )  # stays channels last
        with torch.autocast(self._device.type, torch.float16, enabled=self._device.type == "cuda"):
            logits = self._network(pixels)
        if logits.shape[1] < len(
            self._card.classes
        ):  # softmax of (x, 0) is the sigmoid of x, and the rest
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
        return logits

    def _fitting_batch(self, processes_per_gpu: int) -> int:
        """The largest of `_BATCHES` whose forward passes fit into half of the GPU's free memory."""
        side = self._card.tile_px
        free, _ = torch.cuda.mem_get_info(self._device)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        torch.softmax(
            self._logits(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=self._device)),
            dim=1,
        )
        tile_bytes = torch.cuda.max_memory_allocated(self._device) - before
        torch.cuda.synchronize(
            self._device
        )  # the weights are there before another stream looks for them
        return largest_batch(tile_bytes * processes_per_gpu, free)


class TilesToLogits(torch.nn.Module):
    """All that `UNetPredictor` does to a batch on the CPU, but the softmax, as one module: what
    other backends compute.

    Args:
        card: of the model.
        network: as `UNetPredictor`'s; left as it is, but no longer in training.
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
        """Uint8 ``[n, h, w, 3]`` to float32 ``[n, classes, h, w]``."""
        logits: torch.Tensor = self._network(
            tiles.permute(0, 3, 1, 2).float() * self._scale + self._shift
        )
        if logits.shape[1] < self._classes:
            logits = torch.cat([logits, torch.zeros_like(logits)], dim=1)
        return logits


def largest_batch(tile_bytes: int, free_bytes: int) -> int:
    """The largest of `_BATCHES` that takes at most half of the free memory: others may share the
    GPU; at least 1.
    """
    return next((n for n in _BATCHES if n * tile_bytes <= free_bytes // 2), 1)


def load_unet(
    folder: Path,
    card: ModelCard,
    device: str = "cpu",
    threads: int | None = None,
    *,
    compiled: bool = False,
    processes_per_gpu: int = 1,
) -> UNetPredictor:
    """The model of a folder, in float32 whatever its weights are stored in. Nothing is downloaded,
    nothing unpickled.

    Raises:
        ModelError: if config, weights and card do not fit each other; the message says where.
    """
    return UNetPredictor(
        card,
        load_network(folder),
        device,
        threads,
        compiled=compiled,
        processes_per_gpu=processes_per_gpu,
    )


def load_network(folder: Path) -> torch.nn.Module:
    """The network of a folder with its weights, in float32.

    Raises:
        ModelError: if config and weights do not fit each other; the message says where.
    """
    network = build_network(read_config(folder), folder / CONFIG)
    _fill(network, folder / WEIGHTS)
    return network


def save_model(
    folder: Path,
    network: smp.base.SegmentationModel,
    fields: Mapping[str, Any],
    *,
    half: bool = False,
) -> ModelCard:
    """Write a model folder; its config and weights are what the network's own ``save_pretrained``
    writes.

    Args:
        folder: made where it is missing.
        network: one of `Architecture`.
        fields: of `ModelCard`, all but ``sha256``.
        half: store the weights as float16: half the size, about three significant digits.

    Raises:
        ModelError: if the fields do not make a card, the network does not fit it, or a weight is
            not finite as stored.
    """
    config = {**network.config, "_model_class": type(network).__name__, "encoder_weights": None}
    build_network(config, "the network")
    check_output(network, card_of(fields, "0" * 64))
    state = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in network.state_dict().items()
    }
    _check_finite(state, "the network as stored")
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, config)
    safetensors.torch.save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(
        (folder / CONFIG).stat().st_mode
    )  # safetensors makes it readable to its owner alone
    return write_card(folder, fields)


class _NetworkConfig(BaseModel):
    """What is asked of a config; its other settings are the architecture's own."""

    model_config = ConfigDict(extra="allow")

    architecture: Annotated[Architecture, Field(alias="_model_class")]
    encoder_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")] = (
        "resnet34"  # no 'hf-hub:', no 'local-dir:'
    )
    in_channels: Literal[3] = 3
    classes: int = 1
    activation: Literal["identity", "softmax", "softmax2d", "sigmoid"] | None = None
    aux_params: None = None  # a second output, for whole tiles

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
                "sigmoid over several channels lets a pixel have several classes; Noctile gives it one"
            )
        return self


def build_network(config: Mapping[str, Any], where: Path | str) -> torch.nn.Module:
    """A network as ``config`` describes it, with random weights and without its activation: it
    gives logits.

    Args:
        config: what ``save_pretrained`` of segmentation-models-pytorch writes.
        where: names the config in errors.

    Raises:
        ModelError: if the config describes no network that Noctile runs.
    """
    name = validated(_NetworkConfig, config, where).architecture
    architecture = Pointwise if name == Pointwise.__name__ else getattr(smp, name)
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    known = [
        p.name
        for p in inspect.signature(architecture).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    ]
    if strange := sorted(settings.keys() - set(known)):
        names = f"{architecture.__name__} of segmentation-models-pytorch {smp.__version__}"
        raise ModelError(
            f"{where}: {names} has no setting {', '.join(strange)}; it has {', '.join(known)}"
        )
    try:
        network: torch.nn.Module = architecture(
            **{**settings, "encoder_weights": None, "activation": None}
        )
    except _FOREIGN_ERRORS as error:
        raise ModelError(
            f"{where}: {architecture.__name__} refuses it: {type(error).__name__}: {error}"
        ) from error
    return network


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
            f"{key} is {_describe(weights[key])} where the network has {_describe(expected[key])}"
            for key in sorted(expected.keys() & weights.keys())
            if not _alike(weights[key], expected[key])
        ],
    }
    if any(faults.values()):
        raise ModelError(
            "\n".join(
                [f"{path} does not fit {CONFIG}:", *(_some(k, v) for k, v in faults.items() if v)]
            )
        )
    _check_finite(weights, path)
    network.load_state_dict(weights)


def _check_finite(weights: Mapping[str, torch.Tensor], where: Path | str) -> None:
    if strange := [key for key, tensor in weights.items() if tensor.dtype not in _DTYPES]:
        raise ModelError(
            f"{where} holds numbers of a kind that is not read:\n{_some('tensors', strange)}"
        )
    if broken := [key for key, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise ModelError(f"{where} holds values that are not finite:\n{_some('tensors', broken)}")


def multiply_odds(network: smp.base.SegmentationModel, factors: Sequence[float]) -> None:
    """Multiply the odds of each class against all others, at every pixel: the last layer's bias
    grows by the logarithm.

    Args:
        network: with a channel of logits for each class; changed in place.
        factors: of each class; positive.
    """
    bias = network.segmentation_head[0].bias
    with torch.no_grad():
        bias += torch.log(torch.tensor(factors, dtype=bias.dtype, device=bias.device))


def check_output(network: torch.nn.Module, card: ModelCard) -> None:
    """Send the shape of a tile through the network, without pixels, and see what comes out.

    Raises:
        ModelError: if it does not fit the card.
    """
    side, classes = card.tile_px, len(card.classes)
    try:
        shadow = copy.deepcopy(network).to("meta").eval()
        with torch.no_grad():
            found = tuple(shadow(torch.empty(1, 3, side, side, device="meta")).shape)
    except _FOREIGN_ERRORS as error:
        raise ModelError(
            f"model '{card.name}': its network takes no tiles of {side} px: {type(error).__name__}: {error}"
        ) from error
    if classes != (2 if found[1] == 1 else found[1]):
        raise ModelError(
            f"model '{card.name}': its network has {found[1]} output channels, its card {classes} classes; "
            "list a class for each channel (for a single channel two: what it finds, and the rest)"
        )
    if found[2:] != (side, side):
        raise ModelError(
            f"model '{card.name}': tiles of {side} x {side} px come out as {found[2]} x {found[3]} px"
        )


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _some(what: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED_AT_ONCE else ""
    return f"  {len(names)} {what}: {', '.join(names[:_NAMED_AT_ONCE])}{more}"
