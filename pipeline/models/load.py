"""Load a model: choose the predictor that fits its folder, the device and the backend.

Each kind of predictor is imported only when it is chosen, because torch takes seconds to import.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models import openvino_cache
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.device import resolve_device
from noctile.pipeline.models.folder import (
    CONFIG,
    THRESHOLD,
    read_card,
    read_config,
    verify_weights,
    weights_path,
)
from noctile.pipeline.models.predictor import Predictor

Backend = Literal["torch", "openvino"]
"""Library that computes a network: torch on any device, or OpenVINO on the CPU where it is
installed."""


def load_predictor(
    folder: Path,
    device: str = "auto",
    threads: int | None = None,
    *,
    compiled: bool = False,
    backend: str = "torch",
    processes_per_gpu: int = 1,
) -> Predictor:
    """Load a model, after its weights are checked against its card.

    Args:
        folder: the model folder.
        device: auto, cpu, cuda or cuda:N; a model without a network always runs on the CPU.
        threads: number of tiles that a network on the CPU computes at once; None: torch's number
            of threads.
        compiled: let ``torch.compile`` join the steps of the network; on a GPU only.
        backend: auto or a `Backend`.
        processes_per_gpu: number of processes that load the model on one GPU, this one included.

    Raises:
        ModelError: if the folder is incomplete or altered, its files contradict each other, or the
            backend cannot compute its network.
        UsageError: if there is no such device or backend.
    """
    card = read_card(folder)
    verify_weights(folder, card)
    if weights_path(folder).name == CONFIG:
        from noctile.pipeline.models.threshold import load_threshold  # noqa: PLC0415 - see above

        return load_threshold(folder, card)
    device = resolve_device(device)
    if resolve_backend(backend, device) == "openvino":
        from noctile.pipeline.models.openvino import OpenVinoPredictor  # noqa: PLC0415 - see above

        return OpenVinoPredictor(card, folder, threads)
    from noctile.pipeline.models.network import load_network  # noqa: PLC0415 - see above
    from noctile.pipeline.models.torch_predictor import TorchPredictor  # noqa: PLC0415 - see above

    return TorchPredictor(
        card,
        load_network(folder),
        device,
        threads,
        compiled=compiled,
        processes_per_gpu=processes_per_gpu,
    )


def modules_to_import(folder: Path, card: ModelCard, backend: Backend) -> tuple[str, ...]:
    """Modules that a process needs to load a model, so that they can be imported in advance.

    Raises:
        ModelError: if the folder is incomplete.
    """
    config = read_config(folder)
    if config.get("kind") == THRESHOLD:
        return ("noctile.pipeline.models.threshold",)
    if backend == "torch":
        return ("noctile.pipeline.models.torch_predictor",)
    if openvino_cache.has(openvino_cache.key_of(card, config)):
        return ("noctile.pipeline.models.openvino",)
    return ("noctile.pipeline.models.openvino", "noctile.pipeline.models.network")


def resolve_backend(backend: str, device: str) -> Backend:
    """The backend for a run.

    ``auto`` becomes ``openvino`` on the CPU if it is installed, else ``torch``.

    Args:
        backend: auto or a `Backend`.
        device: a result of `resolve_device`.

    Raises:
        UsageError: if the backend is unknown or not installed, or does not run on the device.
    """
    installed = find_spec("openvino") is not None
    if backend == "torch" or (backend == "auto" and not (installed and device == "cpu")):
        return "torch"
    if backend not in ("auto", "openvino"):
        raise UsageError(f"backend '{backend}' is unknown; use auto, torch or openvino")
    if device != "cpu":
        raise UsageError(
            f"backend 'openvino' runs on the CPU, not on {device}; add --device cpu, or use "
            "--backend torch"
        )
    if not installed:
        raise UsageError(
            "backend 'openvino' is not installed; pip install openvino, or use --backend torch"
        )
    return "openvino"
