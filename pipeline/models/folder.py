"""Model folders: find, read, check and write them. No module imported here needs torch."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.untrusted import CARD_BYTES, MAX_VALUES, open_regular, parse_json, read_text
from noctile.pipeline.wrong_values import did_you_mean, faults_of

CARD, CONFIG, WEIGHTS = "card.json", "config.json", "model.safetensors"
"""The files of a model folder. (docs/model-folder.md)"""

THRESHOLD: Final = "threshold"
"""The ``kind`` in the config of a model without a network. Its config holds its thresholds and
serves as its weights."""

MAX_FILE_BYTES = 2**33
"""Largest file whose hash is computed (B): weights, or a file of a result. A sparse file of
terabytes would take hours."""

_HOW = "docs/model-folder.md says how to write it"
_ZOO = Path(__file__).parent / "zoo"
_PICKLES = frozenset({".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"})

_Checked = TypeVar("_Checked", bound=BaseModel)


def installed_models() -> dict[str, Path]:
    """Folders of the models that ship with Noctile, by name, sorted."""
    return {card.parent.name: card.parent for card in sorted(_ZOO.glob(f"*/{CARD}"))}


def find_model(name_or_folder: str | Path) -> Path:
    """The folder of a model, from the name of an installed model or the path of a folder.

    An installed name comes first: ``demo`` is the installed model, ``./demo`` is a folder.

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
            f"model '{name}' {found}{did_you_mean(name, installed)}; installed: "
            f"{', '.join(installed) or 'none'}; "
            f"a model of your own is a folder with {CARD}, {CONFIG} and {WEIGHTS}"
        )
    if missing := [file for file in (CARD, CONFIG) if not (folder / file).is_file()]:
        raise ModelError(f"model folder {folder} has no {' and no '.join(missing)}; {_HOW}")
    return folder


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder. It does not read the weights (`verify_weights` does).

    Raises:
        ModelError: if the card cannot be read, or a field is missing, unknown or out of range; the
            message names the fields.
    """
    return validate(ModelCard, read_json_object(folder / CARD), folder / CARD)


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a model folder, which describes how to build the model.

    Raises:
        ModelError: if the config cannot be read.
    """
    return read_json_object(folder / CONFIG)


def weights_path(folder: Path) -> Path:
    """The file whose sha256 stands in the card.

    It is the file of the network's weights, or the config of a model without a network.

    Raises:
        ModelError: if the folder has no such file. Pickled weights do not count, because reading a
            pickle runs the code in it.
    """
    if read_config(folder).get("kind") == THRESHOLD:
        return folder / CONFIG
    if (path := folder / WEIGHTS).is_file():
        return path
    if pickled := sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES):
        raise ModelError(
            f"model folder {folder} has no {WEIGHTS}, only {', '.join(pickled)}; Noctile never "
            "opens pickled weights, because reading them runs the code inside; if you trust "
            f"them, load them yourself and save the model: {_HOW}"
        )
    raise ModelError(f"model folder {folder} has no {WEIGHTS}; {_HOW}")


def verify_weights(folder: Path, card: ModelCard) -> None:
    """Compare the hash of the weights with the one in the card.

    Raises:
        ModelError: if there are no weights, they cannot be read, or the hashes differ.
    """
    path = weights_path(folder)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != card.sha256:
        raise ModelError(
            f"{path} does not belong to its card: its sha256 is {found}, the card says "
            f"{card.sha256}; copy the folder again, or save the model again if you meant to "
            "change it"
        )


def write_card(folder: Path, fields: Mapping[str, Any]) -> ModelCard:
    """Write the card of a folder that already holds its config and weights.

    Args:
        folder: the model folder.
        fields: fields of `ModelCard`, all but ``sha256``, which is computed here.

    Raises:
        ModelError: if a field is missing, unknown or out of range, or there are no weights.
    """
    card = make_card(fields, sha256_of(weights_path(folder)))
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a config with sorted keys, so that equal configs have equal bytes."""
    (folder / CONFIG).write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def make_card(fields: Mapping[str, Any], sha256: str) -> ModelCard:
    """A card made from its fields and the hash of its weights.

    Raises:
        ModelError: if a field is missing, unknown or out of range.
    """
    return validate(ModelCard, {**fields, "sha256": sha256}, "the model card")


def sha256_of(path: Path) -> str:
    """Lower-case hexadecimal sha256 of a file, read in pieces.

    Raises:
        OSError: if it cannot be read, is no regular file, or is larger than `MAX_FILE_BYTES`.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"It has more than {MAX_FILE_BYTES} bytes", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: if the file cannot be read or holds no JSON object.
    """
    try:
        value = parse_json(read_text(path, CARD_BYTES), MAX_VALUES)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def validate(kind: type[_Checked], values: Mapping[str, Any], source: Path | str) -> _Checked:
    """An object of type ``kind``, made from untrusted values.

    Args:
        kind: the pydantic model to make.
        values: fields by name.
        source: file, or other origin of the values, to name in an error.

    Raises:
        ModelError: if the values do not fit; the message has a line for each wrong field.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [f"{source} cannot be used:", *faults_of(kind, error)]
        raise ModelError("\n  ".join(lines)) from error
