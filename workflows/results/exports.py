"""Folder of exported files. Each is atomic, and none of another origin is ever replaced.

A record for each file, in the folder ``.noctile`` beside them, has its sha256 and the result that
it was made from. So a file that a user has changed is known from one that may be made again.
"""

import gzip
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.models.folder import sha256_of
from noctile.workflows.results.durable import sync_file
from noctile.workflows.results.files import is_temporary, read_whole_json, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.retry import retried

_RECORDS = ".noctile"
"""Name of the folder of the records."""

_LEFT_BEHIND_S = 3600.0
"""Age from which on a temporary file was left behind by a killed process (s)."""

_GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True)
class ExportFolder:
    """Folder that holds the exported files of one format.

    Attributes:
        path: path of the folder.
    """

    path: Path

    def open(self) -> None:
        """Make the folder if it is missing, and remove what killed processes left in it.

        Raises:
            UsageError: if it cannot be written, is a link, or holds files of another origin.
        """
        try:
            self._check_free()
            (self.path / _RECORDS).mkdir(parents=True, exist_ok=True)
            for path in self.path.glob(".*"):
                old = is_temporary(path) and path.lstat().st_mtime < time.time() - _LEFT_BEHIND_S
                if old:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def _check_free(self) -> None:
        links = [path for path in (self.path, self.path / _RECORDS) if path.is_symlink()]
        if links:
            raise UsageError(
                f"{links[0]} is a link; files would be written where it leads. Name the folder "
                "itself"
            )
        if not self.path.exists() or (self.path / _RECORDS).is_dir():
            return
        if foreign := sorted(path.name for path in self.path.iterdir()):
            raise UsageError(
                f"{self.path} holds {foreign[0]}, and noctile has exported nothing to it; choose a "
                "new or an empty folder"
            )

    def current(self, name: str, made_from: Mapping[str, Any]) -> Path | None:
        """Return the exported file if it is there and was made from the same; else None.

        Args:
            name: name of the file, without ``.gz``.
            made_from: plain values that identify the result, the format and the options.
        """
        record = self._record(name)
        if record is None or record.get("made_from") != dict(made_from):
            return None
        path = self.path / str(record.get("file"))
        try:
            found = path.stat()
        except OSError:
            return None
        seen = [found.st_size, found.st_mtime_ns]
        if seen == record.get("seen"):
            return path
        return path if sha256_of(path) == record.get("sha256") else None

    def write(
        self,
        name: str,
        made_from: Mapping[str, Any],
        write: Callable[[Path], None],
        gzip_above_bytes: int | None = None,
    ) -> Path:
        """Write a file under a temporary name, record it, and rename it.

        Args:
            name: name of the file.
            made_from: plain values that identify the result, the format and the options.
            write: writes the file at the path that it is given.
            gzip_above_bytes: size above which the file is compressed and gets ``.gz`` behind its
                name (B); None for never.

        Returns:
            path of the file.

        Raises:
            StoreError: if the file system refuses, or a file of this name is not one that Noctile
                wrote, or was changed since.
        """
        own = self._own(name)
        final = self.path / name
        temporary = final.with_name(f".{final.stem}.{os.getpid()}.tmp{final.suffix}")
        packed = temporary.with_name(f"{temporary.name}.gz")
        try:
            retried(partial(_begin_anew, temporary, write))
            if gzip_above_bytes is not None and temporary.stat().st_size > gzip_above_bytes:
                _pack(temporary, packed)
                final = self.path / f"{name}.gz"
            made = packed if final.name != name else temporary
            sync_file(made)
            self._put(made, final, name, made_from)
            for path in own - {final}:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{final} cannot be written: {error.strerror or error}; free space or fix its "
                "folder"
            ) from error
        finally:
            for left in (temporary, packed):
                with suppress(OSError):  # the cause of a failed write may also prevent this
                    left.unlink(missing_ok=True)
        return final

    def _put(self, made: Path, final: Path, name: str, made_from: Mapping[str, Any]) -> None:
        """Record a file, then rename it.

        After a kill between the two the record still knows the old file, by ``before``.
        """
        before = self._record(name) or {}
        status = made.stat()
        record = {
            "file": final.name,
            "made_from": dict(made_from),
            "sha256": sha256_of(made),
            "seen": [status.st_size, status.st_mtime_ns],
            "before": [before.get("sha256"), *(before.get("before") or ())][:2],
        }
        write_json(self._record_path(name), record)
        retried(partial(made.replace, final))

    def _own(self, name: str) -> set[Path]:
        """Files of this name that stand in the folder, all of which Noctile has written.

        Raises:
            StoreError: if it has not written one, or it was changed since.
        """
        found = {path for path in (self.path / name, self.path / f"{name}.gz") if _exists(path)}
        record = self._record(name) or {}
        known = {record.get("sha256"), *(record.get("before") or ())}
        for path in found:
            if path.is_symlink() or not path.is_file() or sha256_of(path) not in known:
                raise StoreError(
                    f"{path} was not written by noctile, or was changed since, and is not "
                    "replaced; move it away, or export to another --out"
                )
        return found

    def _record(self, name: str) -> dict[str, Any] | None:
        return read_whole_json(self._record_path(name))

    def _record_path(self, name: str) -> Path:
        return self.path / _RECORDS / f"{name}.json"


def identity(folder: SlideFolder) -> str:
    """Hash of a slide's result, which changes when the result is made again with other content.

    Raises:
        StoreError: if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in (folder.summary, folder.checksums):
            if path.exists():  # results of early versions have no checksums
                digest.update(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{folder.path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()[:16]


def _begin_anew(path: Path, write: Callable[[Path], None]) -> None:
    """Write a whole file; a repeated call begins from nothing."""
    path.unlink(missing_ok=True)
    write(path)


def _pack(path: Path, packed: Path) -> None:
    """Compress a file by gzip; the same content makes the same bytes."""
    with (
        path.open("rb") as source,
        packed.open("wb") as target,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, target, mtime=0) as archive,
    ):
        shutil.copyfileobj(source, archive, 2**20)


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
