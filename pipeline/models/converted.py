"""Networks that were converted for OpenVINO, kept between runs, so that only the first one imports torch.

One file a network in the user's cache folder (``$NOCTILE_CACHE``, else ``$XDG_CACHE_HOME/noctile``, else
``~/.cache/noctile``). Its name is a hash of all that it was made from; it begins with a hash of all that it holds, and
is read only where nobody but its owner can write. Anything else is as good as no file: the network is converted anew.
Where the folder cannot be written, it is converted every time. The folder may be deleted at any time.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.models.card import ModelCard

_VERSION = 2
"""Raised whenever conversion, or the file, changes."""

_MAKERS = ("openvino", "torch", "segmentation-models-pytorch", "timm", "torchvision")
"""What a converted network depends on beside its model."""

_KEPT = 16
"""The files that were written last; a network of 21 classes has 100 MB."""

_SUFFIX = ".openvino"
_DIGEST_BYTES, _LENGTH_BYTES = 32, 8


def key_of(card: ModelCard, config: Mapping[str, Any]) -> str:
    """Names the converted network of a model whose weights are those of its card: a hash in hexadecimal."""
    made_from = {
        "version": _VERSION,
        "makers": {name: _version(name) for name in _MAKERS},
        "config": dict(config),
        "card": card.model_dump(mode="json", include={"sha256", "tile_px", "mean", "std"}),
        "classes": len(card.classes),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def is_kept(key: str) -> bool:
    """Whether there is a file of that key; whether it is any good shows when it is read."""
    return (_folder() / f"{key}{_SUFFIX}").is_file()


def read(key: str) -> tuple[bytes, bytes] | None:
    """What was kept under a key: graph and weights; None if nothing was, or not this, or others may have changed it."""
    try:
        with (_folder() / f"{key}{_SUFFIX}").open("rb") as file:
            if not _is_private(os.fstat(file.fileno())):
                return None
            digest, content = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    if hashlib.sha256(key.encode() + content).digest() != digest:
        return None
    stop = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "big")
    return content[_LENGTH_BYTES:stop], content[stop:]


def write(key: str, save: Callable[[str], object]) -> None:
    """Keep a network, if the file system lets us.

    Args:
        key: of `key_of`.
        save: writes the graph to a path that ends in ``.xml``, and the weights beside it to one in ``.bin``.
    """
    with suppress(OSError, RuntimeError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            path = Path(scratch) / "network.xml"
            save(str(path))
            graph, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
            content = len(graph).to_bytes(_LENGTH_BYTES, "big") + graph + weights
            whole = Path(scratch) / "whole"
            whole.write_bytes(hashlib.sha256(key.encode() + content).digest() + content)
            whole.chmod(0o600)
            whole.replace(folder / f"{key}{_SUFFIX}")
        files = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)


def _folder() -> Path:
    """Where the files stand.

    Raises:
        OSError: if the user has no home.
    """
    if own := os.environ.get("NOCTILE_CACHE"):
        return Path(own)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "noctile"
    try:
        return Path.home() / ".cache" / "noctile"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _is_private(status: os.stat_result) -> bool:
    """Whether a file is its reader's, and nobody else may write to it; only asked where there are such permissions."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
