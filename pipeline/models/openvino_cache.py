"""Cache of networks that OpenVINO compiled, so that only the first run imports torch and compiles.

The cache holds one file for each network, output stage and CPU. The name of a file is a hash of
everything that the file was made from. A file begins with a hash of its own content. It is read
only if no other user can write to it. A file that fails one of these checks is ignored, and the
network is compiled again. If the folder cannot be written, each run compiles. The folder may be
deleted at any time.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from noctile.pipeline.models.cache_folder import cache_folder
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.untrusted import open_private

_VERSION = 4
"""Version of the conversion, the output stages and the file format; raise it with each change."""

_MAKERS = ("openvino", "torch", "segmentation-models-pytorch", "timm", "torchvision")
"""Packages whose versions a compiled network depends on, besides its model and the CPU."""

_MAX_FILES = 16
"""The largest number of files; the oldest are deleted. A network of 21 classes takes 100 MB."""

_SUFFIX = ".openvino"
_DIGEST_BYTES = 32


def key_of(card: ModelCard, config: Mapping[str, Any]) -> str:
    """The hexadecimal hash that begins the names of all files of a model.

    Args:
        card: the card of the model; its ``sha256`` stands for the weights.
        config: the config of the model.
    """
    made_from = {
        "version": _VERSION,
        "makers": {name: _version(name) for name in _MAKERS},
        "config": dict(config),
        "card": card.model_dump(mode="json", include={"sha256", "tile_px", "mean", "std"}),
        "roles": [info.role for info in card.classes],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def has(key: str) -> bool:
    """True if the cache holds a file of a model. Its content is checked only when it is read."""
    with suppress(OSError):
        return any(cache_folder().glob(f"{key}*{_SUFFIX}"))
    return False


def read(name: str) -> bytes | None:
    """The content of a file; None if it is missing, damaged, or writable by other users."""
    try:
        with open_private(cache_folder() / f"{name}{_SUFFIX}") as file:
            digest, content = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    return content if _digest(name, content) == digest else None


def write(name: str, content: bytes) -> None:
    """Write a file, or do nothing if the file system refuses.

    Args:
        name: name of the file, which begins with the `key_of` the model.
        content: content that `read` returns later.
    """
    with suppress(OSError):
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            whole = Path(scratch) / "whole"
            whole.write_bytes(_digest(name, content) + content)
            whole.chmod(0o600)
            whole.replace(folder / f"{name}{_SUFFIX}")
        files = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        for old in files[:-_MAX_FILES]:
            old.unlink(missing_ok=True)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
