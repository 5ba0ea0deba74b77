"""The same networks on the CPU through OpenVINO: the same labels in two thirds of the time (extra
``noctile[cpu]``).

Torch is imported only to convert a network, once on a machine: what is compiled of it is kept
(`noctile.pipeline.models.openvino_cache`). Nothing is sent: the package by which OpenVINO reports
its use, as soon as it is imported, is kept out (openvino.tools.ovc, ``telemetry.send_event``).
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
from noctile.pipeline.models import openvino_cache as converted
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.load import check_tiles, read_config
from noctile.pipeline.models.pixel_labels import PixelLabels, empty_pixel_labels, tumor_channels

if TYPE_CHECKING:
    import torch

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO takes its stub instead

import openvino  # noqa: E402 - after the line above
from openvino import opset13 as op  # noqa: E402 - likewise

Ending = Callable[[openvino.Model, ModelCard], Iterator[openvino.Model]]
"""Makes of a network's graph, whose answer are logits, such with another answer; the first that
compiles is taken."""

_MOST_PLANES = 32
"""Classes that are compared one after the other: of 21 the steps are compiled in 0.8 s, of 39 in
2.5, of 100 in 30."""

_MOST_SPLIT = 4
"""Channels that are quicker taken apart than looked at side by side: two in 2.1 ms a tile for 4.7.
"""


@cache
def _core() -> openvino.Core:
    """One for the process, made where it is used (not before a fork), and as long as the process
    lives.

    Its CPU plugin gives the thread that first compiles a network another stack for signals, and
    takes that away with itself (openvino/src/plugins/intel_cpu/src/sigstack_manager.cpp): were it
    destroyed by another thread, by the garbage collector, say, the next signal would end the
    process with SIGSEGV.
    """
    return openvino.Core()


class OpenVinoPredictor:
    """A network that looks at tiles on the CPU. Safe to call from several threads.

    Each tile is a request of its own, computed by one thread in float32, ``threads`` of them at
    once. So a tile's probabilities are the same bits in any batch, process and number of threads,
    as `UNetPredictor`'s are; they differ from its by rounding (benchmarks/RESULTS.md).

    Args:
        card: of the model.
        network: of torch, as `convert` takes it; or a model's folder, its weights checked against
            the card, whose network is loaded (in float32, nothing unpickled) only where nothing was
            kept of it.
        threads: tiles at once; None: one for each core.

    Raises:
        ModelError: if config, weights and card do not fit each other, or OpenVINO cannot compute
            the network.
    """

    def __init__(
        self, card: ModelCard, network: "torch.nn.Module | Path", threads: int | None = None
    ) -> None:
        self._card, self._threads, self._network = card, threads or cpu_count() or 1, network
        self._key = (
            converted.key_of(card, read_config(network)) if isinstance(network, Path) else None
        )
        self._converted: openvino.Model | None = None
        if self._key is None or not converted.is_kept(self._key):
            self._model()  # what is wrong with it is said now
        self._graphs: dict[Ending, openvino.CompiledModel] = {}
        self._compiling = threading.Lock()
        self._pool = ThreadPoolExecutor(self._threads, "tiles")

    @property
    def card(self) -> ModelCard:
        """What the model says of itself."""
        return self._card

    @property
    def batch_size(self) -> int:
        """Tiles to look at together: one for each thread."""
        return self._threads

    def __call__(self, tiles: UInt8) -> Float32:
        """See `Predictor`.

        Raises:
            ValueError: if the tiles are not what the card says.
            ModelError: if OpenVINO cannot compute the network.
        """
        side = self._card.tile_px
        probabilities = np.empty((len(tiles), len(self._card.classes), side, side), np.float32)
        self._infer(_with_softmax, tiles, [probabilities])
        return probabilities

    def predict_labels(self, tiles: UInt8, part: slice) -> PixelLabels:
        """See `noctile.pipeline.models.pixel_labels.predict_labels`; logits and shares stay OpenVINO's,
        three bytes a pixel come out.

        Raises:
            ValueError: if the tiles are not what the card says, or the network answers with what is
                not a number.
            ModelError: if OpenVINO cannot compute the network.
        """
        whole = empty_pixel_labels(len(tiles), self._card.tile_px)
        winner, likely, confidence = whole.label, whole.tumor, whole.confidence
        if tumor_channels(self._card):
            self._infer(_with_decision, tiles, [winner, confidence, likely])
        else:
            likely.fill(0)
            self._infer(_with_decision, tiles, [winner, confidence])
        if not confidence.all():  # the winner of n classes has at least 1 / n
            raise ValueError("the network answers with what is not a number (NaN)")
        return PixelLabels(*(values[:, part, part] for values in (winner, likely, confidence)))

    def _infer(self, ending: Ending, tiles: UInt8, into: list[npt.NDArray[Any]]) -> None:
        """Compute the network with some ending, tile by tile, as many at once as there are threads.

        Args:
            ending: of the graph.
            tiles: uint8 ``[n, tile_px, tile_px, 3]``.
            into: for each of the graph's outputs, ``[n, ...]``; written to.
        """
        check_tiles(tiles, self._card)
        batch = np.require(
            tiles, requirements=("C", "W")
        )  # OpenVINO shares no memory that is read-only
        compiled = self._graph(ending)

        def one(k: int) -> None:
            request = compiled.create_infer_request()  # takes 10 us
            request.set_input_tensor(openvino.Tensor(batch[k : k + 1], shared_memory=True))
            for number, values in enumerate(into):
                request.set_output_tensor(
                    number, openvino.Tensor(values[k : k + 1], shared_memory=True)
                )
            request.infer()

        for _ in (self._pool.map if len(batch) > 1 else map)(one, range(len(batch))):
            pass

    def _graph(self, ending: Ending) -> openvino.CompiledModel:
        """The network with an ending, compiled when it is first asked for, or in an earlier run."""
        with self._compiling:
            if ending not in self._graphs:
                self._graphs[ending] = self._restored(ending) or self._compiled(ending)
            return self._graphs[ending]

    def _restored(self, ending: Ending) -> openvino.CompiledModel | None:
        """What was kept; None if nothing was, or OpenVINO does not take it, which looks for its
        version and CPU.
        """
        if self._key is None or (content := converted.read(_name(self._key, ending))) is None:
            return None
        try:
            return _core().import_model(content, "CPU", _how(self._threads))
        except RuntimeError:
            return None

    def _compiled(self, ending: Ending) -> openvino.CompiledModel:
        """Compiled anew, and kept.

        Raises:
            ModelError: if OpenVINO cannot do that.
        """
        for graph in ending(self._model(), self._card):
            try:
                compiled = _core().compile_model(graph, "CPU", _how(self._threads))
            except RuntimeError as error:
                failed = error
                continue
            if self._key is not None:
                compiled.export_model(content := io.BytesIO())
                converted.write(_name(self._key, ending), content.getvalue())
            return compiled
        raise _incomputable(self._card, failed) from failed

    def _model(self) -> openvino.Model:
        """The network's graph, converted when it is first asked for."""
        if self._converted is None:
            network = self._network
            if isinstance(network, Path):
                from noctile.pipeline.models.torch_predictor import load_network  # noqa: PLC0415 - imports torch, which takes seconds

                network = load_network(network)
            self._converted = convert(self._card, network)
        return self._converted


def convert(card: ModelCard, network: "torch.nn.Module") -> openvino.Model:
    """A network of torch for single tiles of the card's size.

    It is traced here, since OpenVINO would run it three times to compare, which takes twice as
    long; so does the way through ``torch.export``.

    Args:
        card: of the model.
        network: RGB in; out comes a channel of logits for each class, or one channel for a card
            with two classes: the logit of the first. It is left as it is, but no longer in
            training.

    Raises:
        ModelError: if what comes out does not fit the card, or it holds a step that OpenVINO does
            not know.
    """
    import torch  # noqa: PLC0415 - takes seconds, and only this needs it

    from noctile.pipeline.models.torch_predictor import TilesToLogits, check_output  # noqa: PLC0415 - likewise

    check_output(network, card)
    tile = torch.zeros(1, card.tile_px, card.tile_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # trace is deprecated, and warns of sizes that it takes for constants: they are
        traced = torch.jit.trace(TilesToLogits(card, network), tile, check_trace=False)  # type: ignore[no-untyped-call]
    try:
        return openvino.convert_model(traced, example_input=tile, input=list(tile.shape))
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        raise _incomputable(card, error) from error


def _with_softmax(model: openvino.Model, _card: ModelCard) -> Iterator[openvino.Model]:
    """The network with probabilities for an answer, float32 ``[1, c, h, w]``."""
    model = model.clone()
    yield openvino.Model([op.softmax(_logits(model), 1)], model.get_parameters(), "probabilities")


def _with_decision(model: openvino.Model, card: ModelCard) -> Iterator[openvino.Model]:
    """The network with the fields of a `PixelLabels` for answers: winner, confidence, and tumor, if
    it has such a class.

    All are uint8 ``[1, h, w]``. Logits need not leave OpenVINO so. (docs/decisions/0015)
    """
    tumor = tumor_channels(card)
    quick = model.clone()
    if planes := _planes(_logits(quick)):
        yield _answering(
            quick, *_of_planes(planes, tumor)
        )  # OpenVINO may not have registers enough for it
    model = model.clone()
    yield _answering(model, *_of_channels(_logits(model), tumor))


def _answering(
    model: openvino.Model,
    winner: openvino.Output,
    total: openvino.Output,
    likely: openvino.Output | None,
) -> openvino.Model:
    """A network with what was decided for answers.

    Args:
        model: the network.
        winner: its number.
        total: exponentials of all classes' distances to the winner, added up.
        likely: those of the tumor classes, if there are.
    """
    one = op.divide(np.float32(255), total)
    answers = [winner, op.round(one, "half_to_even")]
    if likely is not None:
        answers.append(op.round(op.multiply(one, likely), "half_to_even"))
    answers = [op.squeeze(op.convert(answer, "u8"), np.array([1])) for answer in answers]
    return openvino.Model(answers, model.get_parameters(), "decision")


_Decided = tuple[openvino.Output, openvino.Output, openvino.Output | None]
"""Winner, total and likely, see `_answering`."""


def _planes(logits: openvino.Output) -> list[openvino.Output]:
    """Of each class the logits ``[1, 1, h, w]``, if they are quickly had; else nothing."""
    source, classes = logits.get_node(), logits.shape[1]
    if source.get_type_name() == "Concat" and classes <= _MOST_PLANES:
        parts: list[openvino.Output] = source.input_values()
        if all(part.shape[1] == 1 for part in parts):
            return parts
    return list(op.split(logits, np.int64(1), classes).outputs()) if classes <= _MOST_SPLIT else []


def _of_planes(logits: Sequence[openvino.Output], tumor: Sequence[int]) -> _Decided:
    """Decide by logits that are computed class by class, ``[1, 1, h, w]`` each: none is written to
    memory.

    The softmax is taken in one pass (Milakov and Gimelshein, arXiv:1805.02867). OpenVINO joins all
    steps into one loop over pixels if it comes to each class's when the classes before are through,
    and it comes to first arguments first. That is why the total waits for the winner.
    """
    unit, winner, others, best = np.float32(1), np.float32(0), None, logits[0]
    for k, logit in enumerate(logits[1:], 1):
        number = np.float32(k)
        winner = op.maximum(winner, op.multiply(op.convert(op.greater(logit, best), "f32"), number))
        larger = op.maximum(logit, best)
        share = op.exp(op.subtract(op.minimum(best, logit), larger))
        if others is None:
            others = share
        else:
            others = op.add(
                op.multiply(others, op.select(op.equal(winner, number), share, unit)), share
            )
        best = larger
    total = op.add(
        others, op.add(op.subtract(best, best), unit)
    )  # what is infinite is not a number
    likely = (
        reduce(op.add, [op.exp(op.subtract(logits[k], best)) for k in tumor]) if tumor else None
    )
    return op.clamp(winner, 0, 255), total, likely


def _of_channels(logits: openvino.Output, tumor: Sequence[int]) -> _Decided:
    """Decide by logits ``[1, c, h, w]`` as convolutions write them, the channels of a pixel side by
    side.

    What asks for them apart, as to split or sort them does, has them moved one number at a time.
    """
    classes, channel = logits.shape[1], np.array([1])
    best = op.reduce_max(logits, channel, keep_dims=True)
    numbers = np.arange(classes, dtype=np.float32).reshape(1, -1, 1, 1)
    winner = op.reduce_min(
        op.select(op.equal(logits, best), numbers, np.float32(255)), channel, keep_dims=True
    )
    shares = op.exp(op.subtract(logits, best))
    sums = [np.ones(classes), np.isin(np.arange(classes), tumor)][: 2 if tumor else 1]
    weights = np.array(sums, np.float32)[:, :, None, None]
    both = op.convolution(shares, weights, [1, 1], [0, 0], [0, 0], [1, 1])
    total, *likely = op.split(both, np.int64(1), len(sums)).outputs()
    return winner, total, likely[0] if likely else None


def _logits(model: openvino.Model) -> openvino.Output:
    return model.output(0).get_node().input_value(0)


def _name(key: str, ending: Ending) -> str:
    """Of what is kept of a network's graph with an ending, for a CPU of this kind."""
    return f"{key}{ending.__name__}_{hashlib.sha256(_cpu().encode()).hexdigest()[:16]}"


def _cpu() -> str:
    """What OpenVINO says of this kind of CPU."""
    return str(
        [
            _core().get_property("CPU", name)
            for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
        ]
    )


def _how(threads: int) -> dict[str, Any]:
    """Each tile is computed by one thread, so many at once."""
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the CPU has it, and labels change
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,  # so that each has one
        "ENABLE_CPU_PINNING": False,  # processes do not know of each other's cores
    }


def _incomputable(card: ModelCard, error: Exception) -> ModelError:
    return ModelError(
        f"model '{card.name}': OpenVINO {openvino.__version__} cannot compute its network, torch can "
        f"(--backend torch): {error}"
    )
