"""Model folders: find, read, check and load them. Torch is imported only for a network or a GPU."""

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import ModelError, UsageError
from noctile.pipeline.models import openvino_cache as converted
from noctile.pipeline.models.card import ModelCard, Predictor
from noctile.pipeline.models.device import resolve_device
from noctile.pipeline.untrusted import CARD_BYTES, MAX_VALUES, parse_json, read_text

CARD, CONFIG, WEIGHTS = "card.json", "config.json", "model.safetensors"
"""The files of a model folder. (docs/model-folder.md)"""

THRESHOLD: Final = "threshold"
"""What ``kind`` says in the config of a model without a network, whose weights are the thresholds
in its config."""

Backend = Literal["torch", "openvino"]
"""What computes a network: torch anywhere, OpenVINO on the CPU where the extra ``noctile[cpu]`` is
installed."""

_HOW = "docs/model-folder.md says how to write it"
_ZOO = Path(__file__).parent / "zoo"
_PICKLES = frozenset({".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"})

MAX_FAULTS = 20
"""As many wrong fields are named; a file can have a million."""

_Checked = TypeVar("_Checked", bound=BaseModel)


def installed_models() -> dict[str, Path]:
    """Folders of the models that ship with Noctile, by name, sorted."""
    return {card.parent.name: card.parent for card in sorted(_ZOO.glob(f"*/{CARD}"))}


def find_model(name_or_folder: str | Path) -> Path:
    """The folder of an installed model, or the folder itself; an installed name comes first
    (``./demo`` is a folder).

    Raises:
        ModelError: if there is no such model, or the folder lacks its card or config.
    """
    installed = installed_models()
    if (name := str(name_or_folder)) in installed:
        return installed[name]
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is neither an installed model nor a folder"
        raise ModelError(
            f"model '{name}' {found}; installed: {', '.join(installed) or 'none'}; "
            f"a model of your own is a folder with {CARD}, {CONFIG} and {WEIGHTS}"
        )
    if missing := [file for file in (CARD, CONFIG) if not (folder / file).is_file()]:
        raise ModelError(f"model folder {folder} has no {' and no '.join(missing)}; {_HOW}")
    return folder


def read_card(folder: Path) -> ModelCard:
    """What a model says of itself. Quick: the weights are not touched (`verify_weights` does that).

    Raises:
        ModelError: if the card cannot be read, or a field is missing, unknown or out of range; the
            message names them.
    """
    return validated(ModelCard, read_json_object(folder / CARD), folder / CARD)


def read_config(folder: Path) -> dict[str, Any]:
    """How the model is built, as it stands in the folder.

    Raises:
        ModelError: if it cannot be read.
    """
    return read_json_object(folder / CONFIG)


def weights_path(folder: Path) -> Path:
    """The file whose sha256 stands in the card: the network's weights, or the config where there is
    no network.

    Raises:
        ModelError: if there is none. Pickled weights are none: to read them is to run what they
            contain.
    """
    if read_config(folder).get("kind") == THRESHOLD:
        return folder / CONFIG
    if (path := folder / WEIGHTS).is_file():
        return path
    if pickled := sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES):
        raise ModelError(
            f"model folder {folder} has no {WEIGHTS}, only {', '.join(pickled)}; pickled weights are never opened, "
            f"since that runs whatever code is inside; if you trust them, load them yourself and save the model: {_HOW}"
        )
    raise ModelError(f"model folder {folder} has no {WEIGHTS}; {_HOW}")


def verify_weights(folder: Path, card: ModelCard) -> None:
    """Compare the weights with their card.

    Raises:
        ModelError: if there are none, or they are not those that the card was written for.
    """
    path = weights_path(folder)
    found = sha256_of(path)
    if found != card.sha256:
        raise ModelError(
            f"{path} is not what its card was written for: its sha256 is {found}, the card says {card.sha256}; "
            "copy the folder again, or save the model again if the change was meant"
        )


def write_card(folder: Path, fields: Mapping[str, Any]) -> ModelCard:
    """Write the card of a folder whose config and weights are in place; their sha256 is filled in.

    Args:
        folder: of the model.
        fields: of `ModelCard`, all but ``sha256``.

    Raises:
        ModelError: if a field is missing, unknown or out of range, or there are no weights.
    """
    card = card_of(fields, sha256_of(weights_path(folder)))
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a config, its keys sorted, so that the same config is the same bytes."""
    (folder / CONFIG).write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def card_of(fields: Mapping[str, Any], sha256: str) -> ModelCard:
    """A card from its fields and the hash of its weights.

    Raises:
        ModelError: if a field is missing, unknown or out of range.
    """
    return validated(ModelCard, {**fields, "sha256": sha256}, "the model card")


def load_predictor(
    folder: Path,
    device: str = "auto",
    threads: int | None = None,
    *,
    compiled: bool = False,
    backend: str = "torch",
    processes_per_gpu: int = 1,
) -> Predictor:
    """A model ready to look at tiles, its weights checked against its card.

    Args:
        folder: of the model.
        device: auto, cpu, cuda or cuda:N; a model without a network runs on the CPU wherever it is.
        threads: tiles that a network looks at at once on the CPU; None: as many as torch takes
            threads.
        compiled: let ``torch.compile`` fuse the network's steps; on a GPU only.
        backend: auto or a `Backend`: what computes the network.
        processes_per_gpu: processes that load it on one GPU, this one among them.

    Raises:
        ModelError: if the folder is incomplete or altered, its files contradict each other, or the
            backend cannot compute its network.
        UsageError: if there is no such device or backend.
    """
    card = read_card(folder)
    verify_weights(folder, card)
    if weights_path(folder).name == CONFIG:
        from noctile.pipeline.models.threshold import load_threshold  # noqa: PLC0415 - each kind of model is loaded on demand

        return load_threshold(folder, card)
    device = resolve_device(device)
    if resolve_backend(backend, device) == "openvino":
        from noctile.pipeline.models.openvino import OpenVinoPredictor  # noqa: PLC0415 - an extra, and it may import torch

        return OpenVinoPredictor(card, folder, threads)
    from noctile.pipeline.models.torch_predictor import load_unet  # noqa: PLC0415 - imports torch, which takes seconds

    return load_unet(
        folder, card, device, threads, compiled=compiled, processes_per_gpu=processes_per_gpu
    )


def modules_of(folder: Path, card: ModelCard, backend: Backend) -> tuple[str, ...]:
    """What a process imports in order to load a model; seconds of work, where a network is yet to
    be converted.

    Raises:
        ModelError: if the folder is incomplete.
    """
    config = read_config(folder)
    if config.get("kind") == THRESHOLD:
        return ("noctile.pipeline.models.threshold",)
    backends: tuple[str, ...] = ()
    if backend == "openvino":
        backends = ("noctile.pipeline.models.openvino",)
        if converted.is_kept(converted.key_of(card, config)):
            return backends
    return (*backends, "noctile.pipeline.models.torch_predictor")


def resolve_backend(backend: str, device: str) -> Backend:
    """The backend that is meant; ``auto`` is ``openvino`` on the CPU where it is installed, else
    ``torch``.

    Args:
        backend: auto or a `Backend`.
        device: of `resolve_device`.

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
            f"backend 'openvino' runs on the CPU, not on {device}; add --device cpu, or use --backend torch"
        )
    if not installed:
        raise UsageError(
            "backend 'openvino' is not installed; pip install 'noctile[cpu]', or use --backend torch"
        )
    return "openvino"


def check_tiles(tiles: UInt8, card: ModelCard) -> None:
    """What every predictor asks of its argument.

    Raises:
        ValueError: if ``tiles`` is not uint8 ``[n >= 1, tile_px, tile_px, 3]``.
    """
    side = card.tile_px
    if (
        tiles.dtype != np.uint8
        or tiles.ndim != 4
        or tiles.shape[0] == 0
        or tiles.shape[1:] != (side, side, 3)
    ):
        raise ValueError(
            f"model '{card.name}' takes uint8 [n, {side}, {side}, 3] with n >= 1, not {tiles.dtype} {list(tiles.shape)}"
        )


def sha256_of(path: Path) -> str:
    """Lower-case hexadecimal sha256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: if there is none.
    """
    try:
        value = parse_json(read_text(path, CARD_BYTES), MAX_VALUES)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def validated(kind: type[_Checked], values: Mapping[str, Any], what: Path | str) -> _Checked:
    """Values as a ``kind``; ``what`` names where they come from.

    Raises:
        ModelError: if they do not fit; the message has a line for each field.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        places = (
            (".".join(map(str, e["loc"])) or "as a whole", e) for e in error.errors()[:MAX_FAULTS]
        )
        lines = [f"  {place:.80}: {e['msg']:.500}{_found(e)}" for place, e in places]
        more = (
            [f"  and {error.error_count() - MAX_FAULTS} more"]
            if error.error_count() > MAX_FAULTS
            else []
        )
        raise ModelError("\n".join([f"{what} cannot be used:", *lines, *more])) from error


def _found(error: Any) -> str:
    """What stood there instead, where it is a single value."""
    return "" if isinstance(error["input"], dict) else f" (found {error['input']!r:.80})"
