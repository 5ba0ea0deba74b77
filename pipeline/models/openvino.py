"""The same networks on the CPU through OpenVINO: the same labels in two thirds of the time (extra ``noctile[cpu]``).

Nothing is written and nothing is sent: the network is handed over in memory, and the package by which OpenVINO reports
its use, as soon as it is imported, is kept out (openvino.tools.ovc, ``telemetry.send_event``).
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ModelError
from pipeline.models.card import ModelCard, UInt8
from pipeline.models.load import check_tiles
from pipeline.models.unet import TilesToProbabilities, check_output, load_network

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO takes its stub instead

import openvino  # noqa: E402 - after the line above

Float32 = npt.NDArray[np.float32]

_CORE = openvino.Core()
"""One for the process, and as long as it lives. Its CPU plugin gives the thread that first compiles a network another
stack for signals, and takes that away with itself (openvino/src/plugins/intel_cpu/src/sigstack_manager.cpp): were it
destroyed by another thread, by the garbage collector, say, the next signal would end the process with SIGSEGV."""


class OpenVinoPredictor:
    """A network that looks at tiles on the CPU. Safe to call from several threads.

    Each tile is a request of its own, computed by one thread in float32, ``threads`` of them at once. So a tile's
    probabilities are the same bits in any batch, process and number of threads, as `UNetPredictor`'s are; they differ
    from its by rounding (benchmarks/RESULTS.md).

    Args:
        card: of the model.
        network: RGB in; out comes a channel of logits for each class, or one channel for a card with two classes: the
            logit of the first. It is left as it is, but no longer in training.
        threads: tiles at once; None: as many as torch takes threads.

    Raises:
        ModelError: if what comes out does not fit the card, or OpenVINO cannot compute it.
    """

    def __init__(self, card: ModelCard, network: torch.nn.Module, threads: int | None = None) -> None:
        check_output(network, card)
        self._card, self._threads = card, threads or torch.get_num_threads()
        self._compiled = _compiled(card, network, self._threads)

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
        """
        check_tiles(tiles, self._card)
        batch = np.require(tiles, requirements=("C", "W"))  # OpenVINO shares no memory that is read-only
        side = self._card.tile_px
        probabilities = np.empty((len(batch), len(self._card.classes), side, side), np.float32)
        requests = []
        for k in range(len(batch)):
            request = self._compiled.create_infer_request()  # takes 10 us
            request.set_input_tensor(openvino.Tensor(batch[k : k + 1], shared_memory=True))
            request.set_output_tensor(openvino.Tensor(probabilities[k : k + 1], shared_memory=True))
            request.start_async()
            requests.append(request)
        for request in requests:
            request.wait()
        return probabilities


def load_openvino(folder: Path, card: ModelCard, threads: int | None = None) -> OpenVinoPredictor:
    """The model of a folder, in float32 whatever its weights are stored in. Nothing is downloaded, nothing unpickled.

    Raises:
        ModelError: if config, weights and card do not fit each other, or OpenVINO cannot compute the network.
    """
    return OpenVinoPredictor(card, load_network(folder), threads)


def _compiled(card: ModelCard, network: torch.nn.Module, threads: int) -> openvino.CompiledModel:
    """The network for single tiles of the card's size, each computed by one thread.

    It is traced here, since OpenVINO would run it three times to compare, which takes twice as long; so does the way
    through ``torch.export``.

    Raises:
        ModelError: if it holds a step that OpenVINO does not know.
    """
    tile = torch.zeros(1, card.tile_px, card.tile_px, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # trace is deprecated, and warns of sizes that it takes for constants: they are
        traced = torch.jit.trace(TilesToProbabilities(card, network), tile, check_trace=False)  # type: ignore[no-untyped-call]
    how = {
        "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where the CPU has it, and labels change
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,  # so that each has one
        "ENABLE_CPU_PINNING": False,  # processes do not know of each other's cores
    }
    try:
        model = openvino.convert_model(traced, example_input=tile, input=list(tile.shape))
        return _CORE.compile_model(model, "CPU", how)
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        raise ModelError(
            f"model '{card.name}': OpenVINO {openvino.__version__} cannot compute its network, torch can "
            f"(--backend torch): {error}"
        ) from error
