"""Scratch folder of this process, removed when it ends; folders of killed processes, too.

Every user of a machine can write to its temporary folder, and can put files there under any name
that a program is known to use. So the name of the scratch folder is drawn at random, and nothing
else in the temporary folder is opened, followed or removed, unless this user made it.
(docs/decisions/0024)
"""

import multiprocessing.util
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.untrusted import is_private, open_private
from noctile.workflows.processes.identity import ProcessIdentity

_PREFIX = "noctile-"
_IDENTITY = "owner.json"

_LONGEST_BASE = 50
"""Longest path of a temporary folder that is used (characters). Batch systems make longer ones,
which leave no room for the names of sockets: 107 bytes in all."""

_IDENTITY_BYTES = 4096
"""Most bytes that are read of the file with the owner's identity; it takes some two hundred."""

_SHORT_BASE = Path("/tmp")  # noqa: S108 - `mkdtemp` makes a private folder in it


@cache
def scratch_folder() -> Path:
    """Private folder (mode 0700) for files that need not survive this process.

    It is removed when the process ends. A killed process cannot do so: the next call in another
    process removes its folder.

    Raises:
        UsageError: if every user can rename and replace what is in the temporary folder.
    """
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_BASE and _SHORT_BASE.is_dir():
        base = _SHORT_BASE
    _check_base(base)
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    (folder / _IDENTITY).touch(mode=0o600)
    (folder / _IDENTITY).write_text(ProcessIdentity.me().to_json(), encoding="utf-8")
    with _temporary_files_in(folder):
        multiprocessing.util.get_temp_dir()  # multiprocessing keeps its sockets there from now on
    # multiprocessing removes its sockets at priority -100: this comes after it
    remove = (None, shutil.rmtree, (folder,), {"ignore_errors": True})
    multiprocessing.util.Finalize(*remove, exitpriority=-200)
    return folder


def _check_base(base: Path) -> None:
    """Check that other users cannot rename and replace a folder in the temporary folder."""
    mode = base.stat().st_mode
    if hasattr(os, "getuid") and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UsageError(
            f"every user of this machine can replace files in the temporary folder {base}. Set "
            f"TMPDIR to a folder of your own, or have the folder's owner call chmod +t {base}"
        )


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of processes of this user that have ended."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another run is removing it
            if folder.is_symlink() or not is_private(folder.lstat()):
                continue
            with open_private(folder / _IDENTITY) as file:
                text = file.read(_IDENTITY_BYTES).decode(errors="replace")
            identity = ProcessIdentity.from_json(text)
            if identity and identity.is_gone:
                shutil.rmtree(folder)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
