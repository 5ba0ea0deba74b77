"""`OpenVinoPredictor`: a network that OpenVINO computes on the CPU.

It gives the same labels as torch in two thirds of the time. Torch is imported only to convert a
network, once on a machine, because the compiled network is cached
(`noctile.pipeline.models.openvino_cache`).

OpenVINO has a package that reports each import to its makers (openvino.tools.ovc,
``telemetry.send_event``). This module replaces that package before it imports OpenVINO, so nothing
is sent.
"""

import hashlib
import io
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, reduce
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from noctile.pipeline.arrays import Float32, UInt8
from noctile.pipeline.errors import ModelError
from noctile.pipeline.models import openvino_cache
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import read_config
from noctile.pipeline.models.pixel_labels import PixelLabels, empty_pixel_labels, tumor_channels
from noctile.pipeline.models.predictor import check_tiles

if TYPE_CHECKING:
    import torch

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO takes its stub instead

import openvino  # noqa: E402 - after the line above
from openvino import opset13 as op  # noqa: E402 - after the line above

OutputStage = Callable[[openvino.Model, ModelCard], Iterator[openvino.Model]]
"""Function that replaces the logits at the end of a network's graph by another output.

It yields several versions of the graph; the first one that OpenVINO can compile is used."""

_MAX_COMPARED_CLASSES = 32
"""Largest number of classes that are compared one after the other. Those steps compile in 0.8 s for
21 classes, in 2.5 s for 39, and in 30 s for 100."""

_MAX_SPLIT_CHANNELS = 4
"""Largest number of interleaved channels that are split before they are compared. Two channels of a
tile take 2.1 ms split and 4.7 ms together."""


@cache
def _core() -> openvino.Core:
    """The OpenVINO core of this process, made at first use (after a fork) and never destroyed.

    The CPU plugin of a core gives the thread that first compiles a network another stack for
    signals, and removes that stack when the core is destroyed
    (openvino/src/plugins/intel_cpu/src/sigstack_manager.cpp). If another thread destroyed the core,
    for instance in the garbage collector, the next signal would end the process with SIGSEGV.
    """
    return openvino.Core()


class OpenVinoPredictor:
    """A network that OpenVINO computes on the CPU. Several threads may call it at once.

    Each tile is a request of its own, which one thread computes in float32; ``threads`` requests
    run at once. Therefore the probabilities of a tile are the same bits in any batch and process
    and with any number of threads, as with `TorchPredictor`. They differ from those of
    `TorchPredictor` by rounding. (benchmarks/history/network.md)

    Args:
        card: the model's card.
        network: a torch network as for `convert`, or a model folder whose weights are checked
            against the card. The network of a folder is loaded, in float32, only if it is not in
            the cache.
        threads: number of tiles at once; None: one for each core.

    Raises:
        ModelError: if config, weights and card do not fit each other, or OpenVINO cannot compute
            the network.
    """

    def __init__(
        self, card: ModelCard, network: "torch.nn.Module | Path", threads: int | None = None
    ) -> None:
        self._card, self._threads, self._network = card, threads or cpu_count() or 1, network
        self._key = (
            openvino_cache.key_of(card, read_config(network)) if isinstance(network, Path) else None
        )
        self._converted: openvino.Model | None = None
        if self._key is None or not openvino_cache.has(self._key):
            self._model()  # raises an error about the network now, not at the first tile
        self._graphs: dict[OutputStage, openvino.CompiledModel] = {}
        self._compiling = threading.Lock()
        self._pool = ThreadPoolExecutor(self._threads, "tiles")

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self._card

    @property
    def batch_size(self) -> int:
        """Number of tiles in a batch: one for each thread."""
        return self._threads

    def __call__(self, tiles: UInt8) -> Float32:
        """Class probabilities as for `Predictor`.

        Raises:
            ValueError: if the tiles do not fit the card.
            ModelError: if OpenVINO cannot compute the network.
        """
        side = self._card.tile_px
        probabilities = np.empty((len(tiles), len(self._card.classes), side, side), np.float32)
        self._infer(_with_softmax, tiles, [probabilities])
        return probabilities

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """Labels as for `LabelPredictor`, computed in the network's graph.

        OpenVINO writes three bytes a pixel; logits and probabilities stay inside.

        Raises:
            ValueError: if the tiles do not fit the card, or the output is not a number.
            ModelError: if OpenVINO cannot compute the network.
        """
        whole = empty_pixel_labels(len(tiles), self._card.tile_px)
        label, tumor, confidence = whole.label, whole.tumor, whole.confidence
        if tumor_channels(self._card):
            self._infer(_with_labels, tiles, [label, confidence, tumor])
        else:
            tumor.fill(0)
            self._infer(_with_labels, tiles, [label, confidence])
        if not confidence.all():  # the most probable of n classes has at least 1 / n
            raise ValueError("the output of the network is not a number (NaN)")
        return PixelLabels(*(values[:, part, part] for values in (label, tumor, confidence)))

    def _infer(self, stage: OutputStage, tiles: UInt8, out: list[npt.NDArray[Any]]) -> None:
        """Compute the network with an output stage, tile by tile, ``threads`` tiles at once.

        Args:
            stage: the output stage.
            tiles: uint8 ``[n, tile_px, tile_px, 3]``.
            out: arrays ``[n, ...]``, one for each output of the graph; written to.
        """
        check_tiles(tiles, self._card)
        # OpenVINO does not share read-only memory
        batch = np.require(tiles, requirements=("C", "W"))
        compiled = self._graph(stage)

        def infer_one(k: int) -> None:
            request = compiled.create_infer_request()  # takes 10 us
            request.set_input_tensor(openvino.Tensor(batch[k : k + 1], shared_memory=True))
            for number, values in enumerate(out):
                request.set_output_tensor(
                    number, openvino.Tensor(values[k : k + 1], shared_memory=True)
                )
            request.infer()

        for _ in (self._pool.map if len(batch) > 1 else map)(infer_one, range(len(batch))):
            pass

    def _graph(self, stage: OutputStage) -> openvino.CompiledModel:
        """The compiled network with an output stage, from memory, the cache, or a compilation."""
        with self._compiling:
            if stage not in self._graphs:
                self._graphs[stage] = self._cached(stage) or self._compiled(stage)
            return self._graphs[stage]

    def _cached(self, stage: OutputStage) -> openvino.CompiledModel | None:
        """The compiled network from the cache.

        None if it is not there, or OpenVINO refuses it because its version or the CPU differ.
        """
        if self._key is None:
            return None
        content = openvino_cache.read(_cache_name(self._key, stage))
        if content is None:
            return None
        try:
            return _core().import_model(content, "CPU", _settings(self._threads))
        except RuntimeError:
            return None

    def _compiled(self, stage: OutputStage) -> openvino.CompiledModel:
        """Compile the network and write it to the cache.

        Raises:
            ModelError: if OpenVINO cannot compile it.
        """
        for graph in stage(self._model(), self._card):
            try:
                compiled = _core().compile_model(graph, "CPU", _settings(self._threads))
            except RuntimeError as error:
                failed = error
                continue
            if self._key is not None:
                compiled.export_model(content := io.BytesIO())
                openvino_cache.write(_cache_name(self._key, stage), content.getvalue())
            return compiled
        raise _cannot_compute(self._card, failed) from failed

    def _model(self) -> openvino.Model:
        """The graph of the network, converted at first use."""
        if self._converted is None:
            network = self._network
            if isinstance(network, Path):
                from noctile.pipeline.models.network import load_network  # noqa: PLC0415 - imports torch

                network = load_network(network)
            self._converted = convert(self._card, network)
        return self._converted


def convert(card: ModelCard, network: "torch.nn.Module") -> openvino.Model:
    """Convert a torch network to a graph for single tiles of the card's size.

    The network is traced here. OpenVINO would run it three times to compare the results, which
    takes twice as long; ``torch.export`` takes twice as long, too.

    Args:
        card: the model's card.
        network: the network. Its input is RGB. Its output has one channel of logits for each class;
            or, for a card with two classes, a single channel with the logit of the first class. It
            stays unchanged, but is put in evaluation mode.

    Raises:
        ModelError: if the output does not fit the card, or OpenVINO does not know a step of the
            network.
    """
    import torch  # noqa: PLC0415 - takes seconds, and only a conversion needs it

    from noctile.pipeline.models.network import TilesToLogits, check_output  # noqa: PLC0415 - imports torch

    check_output(network, card)
    tile = torch.zeros(1, card.tile_px, card.tile_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        # trace is deprecated; it also warns of sizes that it takes for constants, rightly here
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(TilesToLogits(card, network), tile, check_trace=False)  # type: ignore[no-untyped-call]
    try:
        return openvino.convert_model(traced, example_input=tile, input=list(tile.shape))
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        raise _cannot_compute(card, error) from error


def _with_softmax(model: openvino.Model, _card: ModelCard) -> Iterator[openvino.Model]:
    """The network with probabilities as its output, float32 ``[1, c, h, w]``."""
    model = model.clone()
    yield openvino.Model([op.softmax(_logits(model), 1)], model.get_parameters(), "probabilities")


def _with_labels(model: openvino.Model, card: ModelCard) -> Iterator[openvino.Model]:
    """The network with label, confidence and (if a class is tumor) tumor as its outputs.

    All are uint8 ``[1, h, w]``, so logits stay inside OpenVINO. (docs/decisions/0015)
    """
    tumor = tumor_channels(card)
    fast = model.clone()
    if planes := _planes(_logits(fast)):
        # OpenVINO may not have enough registers for this version
        yield _with_outputs(fast, *_compare_planes(planes, tumor))
    model = model.clone()
    yield _with_outputs(model, *_compare_channels(_logits(model), tumor))


def _with_outputs(
    model: openvino.Model,
    label: openvino.Output,
    total: openvino.Output,
    tumor: openvino.Output | None,
) -> openvino.Model:
    """A network with bytes for label, confidence and tumor as its outputs.

    Args:
        model: the network.
        label: number of the largest channel.
        total: sum over the classes of exp(logit - largest logit).
        tumor: the same sum over the tumor classes, if there are any.
    """
    one = op.divide(np.float32(255), total)
    outputs = [label, op.round(one, "half_to_even")]
    if tumor is not None:
        outputs.append(op.round(op.multiply(one, tumor), "half_to_even"))
    outputs = [op.squeeze(op.convert(output, "u8"), np.array([1])) for output in outputs]
    return openvino.Model(outputs, model.get_parameters(), "labels")


_Compared = tuple[openvino.Output, openvino.Output, openvino.Output | None]
"""Label, total and tumor as for `_with_outputs`."""


def _planes(logits: openvino.Output) -> list[openvino.Output]:
    """Logits ``[1, 1, h, w]`` of each class, or an empty list if separating them is slow."""
    source, classes = logits.get_node(), logits.shape[1]
    if source.get_type_name() == "Concat" and classes <= _MAX_COMPARED_CLASSES:
        parts: list[openvino.Output] = source.input_values()
        if all(part.shape[1] == 1 for part in parts):
            return parts
    if classes > _MAX_SPLIT_CHANNELS:
        return []
    return list(op.split(logits, np.int64(1), classes).outputs())


def _compare_planes(logits: Sequence[openvino.Output], tumor: Sequence[int]) -> _Compared:
    """Compare logits that are computed class by class, ``[1, 1, h, w]`` each.

    No logit is written to memory. The softmax takes one pass (Milakov and Gimelshein,
    arXiv:1805.02867). OpenVINO joins all steps into one loop over pixels if it reaches the steps of
    a class after those of the classes before it. It follows first arguments first, and therefore
    ``total`` depends on ``label`` here.
    """
    unit, label, others, best = np.float32(1), np.float32(0), None, logits[0]
    for k, logit in enumerate(logits[1:], 1):
        number = np.float32(k)
        label = op.maximum(label, op.multiply(op.convert(op.greater(logit, best), "f32"), number))
        larger = op.maximum(logit, best)
        share = op.exp(op.subtract(op.minimum(best, logit), larger))
        if others is None:
            others = share
        else:
            others = op.add(
                op.multiply(others, op.select(op.equal(label, number), share, unit)), share
            )
        best = larger
    # best - best is 0, or NaN for an infinite logit
    total = op.add(others, op.add(op.subtract(best, best), unit))
    of_tumor = (
        reduce(op.add, [op.exp(op.subtract(logits[k], best)) for k in tumor]) if tumor else None
    )
    return op.clamp(label, 0, 255), total, of_tumor


def _compare_channels(logits: openvino.Output, tumor: Sequence[int]) -> _Compared:
    """Compare logits ``[1, c, h, w]`` in the order of convolutions, with interleaved channels.

    A step that takes the channels apart, such as a split or a sort, moves one number at a time.
    """
    classes, channel = logits.shape[1], np.array([1])
    best = op.reduce_max(logits, channel, keep_dims=True)
    numbers = np.arange(classes, dtype=np.float32).reshape(1, -1, 1, 1)
    label = op.reduce_min(
        op.select(op.equal(logits, best), numbers, np.float32(255)), channel, keep_dims=True
    )
    shares = op.exp(op.subtract(logits, best))
    sums = [np.ones(classes), np.isin(np.arange(classes), tumor)][: 2 if tumor else 1]
    weights = np.array(sums, np.float32)[:, :, None, None]
    both = op.convolution(shares, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    total, *of_tumor = op.split(both, np.int64(1), len(sums)).outputs()
    return label, total, of_tumor[0] if of_tumor else None


def _logits(model: openvino.Model) -> openvino.Output:
    return model.output(0).get_node().input_value(0)


def _cache_name(key: str, stage: OutputStage) -> str:
    """Name in the cache of a compiled network with an output stage, for this kind of CPU."""
    return f"{key}{stage.__name__}_{hashlib.sha256(_cpu().encode()).hexdigest()[:16]}"


def _cpu() -> str:
    """OpenVINO's description of this kind of CPU."""
    return str(
        [
            _core().get_property("CPU", name)
            for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        ]
    )


def _settings(threads: int) -> dict[str, Any]:
    """OpenVINO's settings for one thread a tile and ``threads`` tiles at once."""
    return {
        # the default is bfloat16 where the CPU has it, which changes labels
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,  # one thread for each stream
        "ENABLE_CPU_PINNING": False,  # several processes would pin the same cores
    }


def _cannot_compute(card: ModelCard, error: Exception) -> ModelError:
    return ModelError(
        f"model '{card.name}': OpenVINO {openvino.__version__} cannot compute its network, torch "
        f"can (--backend torch): {error}"
    )
