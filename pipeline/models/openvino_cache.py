"""Networks that were compiled by OpenVINO, kept between runs, so that only the first one imports
torch and compiles.

One file a network, kind of answer and CPU in the user's cache folder (``$NOCTILE_CACHE``, else
``$XDG_CACHE_HOME/noctile``, else ``~/.cache/noctile``). Its name is a hash of all that it was made
from; it begins with a hash of all that it holds, and is read only where nobody but its owner can
write. Anything else is as good as no file: the network is compiled anew. Where the folder cannot be
written, it is compiled every time. The folder may be deleted at any time.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from noctile.pipeline.models.card import ModelCard

_VERSION = 3
"""Raised whenever conversion, what is compiled with it, or the file changes."""

_MAKERS = ("openvino", "torch", "segmentation-models-pytorch", "timm", "torchvision")
"""What a compiled network depends on beside its model and the CPU."""

_KEPT = 16
"""The files that were written last; a network of 21 classes has 100 MB."""

_SUFFIX = ".openvino"
_DIGEST_BYTES = 32


def key_of(card: ModelCard, config: Mapping[str, Any]) -> str:
    """Begins the names of all that is kept of a model whose weights are those of its card: a hash
    in hexadecimal.
    """
    made_from = {
        "version": _VERSION,
        "makers": {name: _version(name) for name in _MAKERS},
        "config": dict(config),
        "card": card.model_dump(mode="json", include={"sha256", "tile_px", "mean", "std"}),
        "roles": [info.role for info in card.classes],
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def is_kept(key: str) -> bool:
    """Whether there is a file of that key; whether it is any good shows when it is read."""
    with suppress(OSError):
        return any(_folder().glob(f"{key}*{_SUFFIX}"))
    return False


def read(name: str) -> bytes | None:
    """What was kept under a name; None if nothing was, or not this, or others may have changed it."""
    try:
        with (_folder() / f"{name}{_SUFFIX}").open("rb") as file:
            if not _is_private(os.fstat(file.fileno())):
                return None
            digest, content = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    return content if _digest(name, content) == digest else None


def write(name: str, content: bytes) -> None:
    """Keep something, if the file system lets us.

    Args:
        name: begins with the `key_of` a model.
        content: what `read` shall return.
    """
    with suppress(OSError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
            whole = Path(scratch) / "whole"
            whole.write_bytes(_digest(name, content) + content)
            whole.chmod(0o600)
            whole.replace(folder / f"{name}{_SUFFIX}")
        files = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime)
        for old in files[:-_KEPT]:
            old.unlink(missing_ok=True)


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + content).digest()


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
    """Whether a file is its reader's, and nobody else may write to it; only asked where there are
    such permissions.
    """
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
