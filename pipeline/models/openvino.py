"""The same networks on the CPU through OpenVINO: the same labels in two thirds of the time (extra ``noctile[cpu]``).

Torch is imported only to convert a network, once on a machine: what comes of it is kept (`pipeline.models.converted`).
Nothing is sent: the package by which OpenVINO reports its use, as soon as it is imported, is kept out
(openvino.tools.ovc, ``telemetry.send_event``).
"""

import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, reduce
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError
from pipeline.models import converted
from pipeline.models.card import ModelCard, UInt8
from pipeline.models.decide import Decision, empty_decision, tumor_channels
from pipeline.models.load import check_tiles, read_config

if TYPE_CHECKING:
    import torch

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO takes its stub instead

import openvino  # noqa: E402 - after the line above
from openvino import opset13 as op  # noqa: E402 - likewise

Float32 = npt.NDArray[np.float32]


@cache
def _core() -> openvino.Core:
    """One for the process, made where it is used (not before a fork), and as long as the process lives.

    Its CPU plugin gives the thread that first compiles a network another stack for signals, and takes that away with
    itself (openvino/src/plugins/intel_cpu/src/sigstack_manager.cpp): were it destroyed by another thread, by the
    garbage collector, say, the next signal would end the process with SIGSEGV.
    """
    return openvino.Core()


class OpenVinoPredictor:
    """A network that looks at tiles on the CPU. Safe to call from several threads.

    Each tile is a request of its own, computed by one thread in float32, ``threads`` of them at once. So a tile's
    probabilities are the same bits in any batch, process and number of threads, as `UNetPredictor`'s are; they differ
    from its by rounding (benchmarks/RESULTS.md).

    Args:
        card: of the model.
        network: of torch, as `convert` takes it, or what came of that.
        threads: tiles at once; None: one for each core.

    Raises:
        ModelError: if what comes out does not fit the card, or OpenVINO cannot compute it.
    """

    def __init__(
        self, card: ModelCard, network: "torch.nn.Module | openvino.Model", threads: int | None = None
    ) -> None:
        self._card, self._threads = card, threads or cpu_count() or 1
        self._model = network if isinstance(network, openvino.Model) else convert(card, network)
        self._graphs: dict[Callable[..., openvino.Model], openvino.CompiledModel] = {}
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

    def decide(self, tiles: UInt8, part: slice) -> Decision:
        """See `pipeline.models.decide.decide`; logits and shares stay OpenVINO's, three bytes a pixel come out.

        Raises:
            ValueError: if the tiles are not what the card says, or the network answers with what is not a number.
            ModelError: if OpenVINO cannot compute the network.
        """
        whole = empty_decision(len(tiles), self._card.tile_px)
        winner, likely, confidence = whole.winner, whole.tumor, whole.confidence
        if tumor_channels(self._card):
            self._infer(_with_decision, tiles, [winner, confidence, likely])
        else:
            likely.fill(0)
            self._infer(_with_decision, tiles, [winner, confidence])
        if not confidence.all():  # the winner of n classes has at least 1 / n
            raise ValueError("the network answers with what is not a number (NaN)")
        return Decision(*(values[:, part, part] for values in (winner, likely, confidence)))

    def _infer(self, ending: Callable[..., openvino.Model], tiles: UInt8, into: list[npt.NDArray[Any]]) -> None:
        """Compute the network with some ending, tile by tile, as many at once as there are threads.

        Args:
            ending: makes the graph from the network's, and the card.
            tiles: uint8 ``[n, tile_px, tile_px, 3]``.
            into: for each of the graph's outputs, ``[n, ...]``; written to.
        """
        check_tiles(tiles, self._card)
        batch = np.require(tiles, requirements=("C", "W"))  # OpenVINO shares no memory that is read-only
        with self._compiling:
            if ending not in self._graphs:
                self._graphs[ending] = _compiled(self._card, ending(self._model, self._card), self._threads)
            compiled = self._graphs[ending]

        def one(k: int) -> None:
            request = compiled.create_infer_request()  # takes 10 us
            request.set_input_tensor(openvino.Tensor(batch[k : k + 1], shared_memory=True))
            for number, values in enumerate(into):
                request.set_output_tensor(number, openvino.Tensor(values[k : k + 1], shared_memory=True))
            request.infer()

        for _ in (self._pool.map if len(batch) > 1 else map)(one, range(len(batch))):
            pass


def load_openvino(folder: Path, card: ModelCard, threads: int | None = None) -> OpenVinoPredictor:
    """The model of a folder, in float32 whatever its weights are stored in. Nothing is downloaded, nothing unpickled.

    Args:
        folder: of the model, its weights checked against the card.
        card: of the model.
        threads: see `OpenVinoPredictor`.

    Raises:
        ModelError: if config, weights and card do not fit each other, or OpenVINO cannot compute the network.
    """
    key = converted.key_of(card, read_config(folder))
    if (kept := converted.read(key)) and (model := _restored(card, *kept)):
        return OpenVinoPredictor(card, model, threads)
    from pipeline.models.unet import load_network  # noqa: PLC0415 - imports torch, which takes seconds

    model = convert(card, load_network(folder))
    converted.write(key, lambda path: openvino.save_model(model, path, compress_to_fp16=False))
    return OpenVinoPredictor(card, model, threads)


def convert(card: ModelCard, network: "torch.nn.Module") -> openvino.Model:
    """A network of torch for single tiles of the card's size.

    It is traced here, since OpenVINO would run it three times to compare, which takes twice as long; so does the way
    through ``torch.export``.

    Args:
        card: of the model.
        network: RGB in; out comes a channel of logits for each class, or one channel for a card with two classes: the
            logit of the first. It is left as it is, but no longer in training.

    Raises:
        ModelError: if what comes out does not fit the card, or it holds a step that OpenVINO does not know.
    """
    import torch  # noqa: PLC0415 - takes seconds, and only this needs it

    from pipeline.models.unet import TilesToLogits, check_output  # noqa: PLC0415 - likewise

    check_output(network, card)
    tile = torch.zeros(1, card.tile_px, card.tile_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # trace is deprecated, and warns of sizes that it takes for constants: they are
        traced = torch.jit.trace(TilesToLogits(card, network), tile, check_trace=False)  # type: ignore[no-untyped-call]
    try:
        return openvino.convert_model(traced, example_input=tile, input=list(tile.shape))
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        raise _incomputable(card, error) from error


def _with_softmax(model: openvino.Model, _card: ModelCard) -> openvino.Model:
    """The network with probabilities for an answer, float32 ``[1, c, h, w]``."""
    model = model.clone()
    return openvino.Model([op.softmax(_logits(model), 1)], model.get_parameters(), "probabilities")


def _with_decision(model: openvino.Model, card: ModelCard) -> openvino.Model:
    """The network with the fields of a `Decision` for answers: winner, confidence, and tumor, if it has such a class.

    All are uint8 ``[1, h, w]``. Logits of 21 classes need not leave OpenVINO so, nor are their exponentials ever
    written: taken class by class, OpenVINO adds them up as it computes them, and what it splits it does not copy
    (docs/decisions/0015).
    """
    model = model.clone()
    logits, channels = _logits(model), np.array([1])
    best = op.topk(logits, np.int64(1), 1, "max", "value", stable=True)  # the first of equals
    each = op.split(logits, np.int64(1), len(card.classes)).outputs()
    shares = [op.exp(op.subtract(logit, best.output(0))) for logit in each]
    one = op.divide(np.float32(255), reduce(op.add, shares))
    winner = op.clamp(op.convert(best.output(1), "f32"), 0, 255)  # else its last step is no compiled code
    answers = [winner, op.round(one, "half_to_even")]
    if tumor := tumor_channels(card):
        likely = reduce(op.add, [shares[k] for k in tumor])
        answers.append(op.round(op.multiply(likely, one), "half_to_even"))
    answers = [op.squeeze(op.convert(answer, "u8"), channels) for answer in answers]
    return openvino.Model(answers, model.get_parameters(), "decision")


def _logits(model: openvino.Model) -> openvino.Output:
    return model.output(0).get_node().input_value(0)


def _restored(card: ModelCard, graph: bytes, weights: bytes) -> openvino.Model | None:
    """The network of what `converted` has kept; None if OpenVINO does not take it for one of the card's."""
    side, classes = card.tile_px, len(card.classes)
    try:
        model = _core().read_model(graph, weights)
        found = [(list(port.shape), port.element_type) for port in (*model.inputs, *model.outputs)]
    except RuntimeError:
        return None
    wanted = [([1, side, side, 3], openvino.Type.u8), ([1, classes, side, side], openvino.Type.f32)]
    return model if found == wanted else None


def _compiled(card: ModelCard, model: openvino.Model, threads: int) -> openvino.CompiledModel:
    """Each tile computed by one thread, so many at once.

    Raises:
        ModelError: if OpenVINO cannot do that.
    """
    how = {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the CPU has it, and labels change
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,  # so that each has one
        "ENABLE_CPU_PINNING": False,  # processes do not know of each other's cores
    }
    try:
        return _core().compile_model(model, "CPU", how)
    except RuntimeError as error:
        raise _incomputable(card, error) from error


def _incomputable(card: ModelCard, error: Exception) -> ModelError:
    return ModelError(
        f"model '{card.name}': OpenVINO {openvino.__version__} cannot compute its network, torch can "
        f"(--backend torch): {error}"
    )
