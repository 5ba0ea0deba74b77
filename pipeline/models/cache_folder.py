"""Cache folder: computed once, used by later runs; it may be deleted at any time.

It is ``$NOCTILE_CACHE``, else ``$XDG_CACHE_HOME/noctile``, else ``~/.cache/noctile``.
"""

import os
from pathlib import Path

from noctile.pipeline.untrusted import is_private


def cache_folder() -> Path:
    """The folder of the cache.

    Raises:
        OSError: if the user has no home folder.
    """
    if own := os.environ.get("NOCTILE_CACHE"):
        return Path(own)
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "noctile"
    try:
        return Path.home() / ".cache" / "noctile"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def private_cache_folder(name: str) -> Path:
    """Make a folder in the cache that this user owns and no other user can write to.

    Raises:
        OSError: if it cannot be made, or if another user owns it or can write to it.
    """
    folder = cache_folder() / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(folder.lstat()) or folder.is_symlink():
        raise PermissionError(f"another user owns {folder} or can write to it")
    return folder.absolute()
