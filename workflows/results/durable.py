"""Durable names: folders are synced, so that new files survive a power cut.

Noctile writes every file under a temporary name, syncs it, and renames it: a name never stands for
an incomplete file. The name itself is on the disk only when its folder is synced. The same holds
for the name of that folder, up to one that is on the disk already. (docs/decisions/0027)
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""Errors of file systems that cannot sync a folder, such as SMB."""


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk.

    Raises:
        OSError: if the disk refuses.
    """
    _sync(path)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, if its file system can do that.

    Raises:
        OSError: if the disk refuses.
    """
    try:
        _sync(path)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync_names(paths: Iterable[Path], top: Path) -> None:
    """Sync every folder on the way from some files up to a folder, this one included.

    Args:
        paths: files below ``top``, whose content is on the disk.
        top: folder whose own name is on the disk.

    Raises:
        OSError: if the disk refuses.
    """
    folders = {folder for path in paths for folder in path.parents if folder.is_relative_to(top)}
    for folder in sorted(folders, key=lambda f: -len(f.parts)):
        sync_folder(folder)


def sync_tree(top: Path) -> None:
    """Sync every file and every folder in a folder, and the folder itself.

    Raises:
        OSError: if the disk refuses.
    """
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            sync_file(Path(folder, name))
        sync_folder(Path(folder))


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
