"""Scratch folder of this process, removed when it ends; folders of killed processes, too."""

import multiprocessing.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from noctile.workflows.processes.identity import ProcessIdentity

_PREFIX = "noctile-"
_IDENTITY = "owner.json"

_LONGEST_BASE = 50
"""Longest path of a temporary folder that is used (characters). Batch systems make longer ones,
which leave no room for the names of sockets: 107 bytes in all."""

_SHORT_BASE = Path("/tmp")  # noqa: S108 - `mkdtemp` makes a private folder in it


@cache
def scratch_folder() -> Path:
    """Private folder (mode 0700) for files that need not survive this process.

    It is removed when the process ends. A killed process cannot do so: the next call in another
    process removes its folder.
    """
    base = Path(tempfile.gettempdir())
    if len(str(base)) > _LONGEST_BASE and _SHORT_BASE.is_dir():
        base = _SHORT_BASE
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    (folder / _IDENTITY).write_text(ProcessIdentity.me().to_json(), encoding="utf-8")
    with _temporary_files_in(folder):
        multiprocessing.util.get_temp_dir()  # multiprocessing keeps its sockets there from now on
    # multiprocessing removes its sockets at priority -100: this comes after it
    remove = (None, shutil.rmtree, (folder,), {"ignore_errors": True})
    multiprocessing.util.Finalize(*remove, exitpriority=-200)
    return folder


def _remove_abandoned(base: Path) -> None:
    """Remove the folders of processes that have ended."""
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's folder, or another run is removing it
            text = (folder / _IDENTITY).read_text(encoding="utf-8")
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
