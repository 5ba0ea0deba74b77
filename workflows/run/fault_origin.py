"""Origin of a failure: the slide, or the machine and the disks that a run depends on."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from noctile.pipeline.errors import SlideReadError, StorageError
from noctile.pipeline.slides.discover import SlideEntry
from noctile.pipeline.slides.storage import probe
from noctile.workflows.engines.base import (
    ENGINE_LOST,
    OUT_OF_MEMORY,
    OUTPUT_LOST,
    TIMEOUT,
    WORKER_DIED,
    Failure,
)
from noctile.workflows.results.lease import Lease

_PROBE_BYTES = 2**20
"""Size of a file that tests if results can be written (B). Libraries do not always say that the
disk was full."""

_OWN_REASONS = {
    *("unopenable", "unreadable", "unreadable_tissue", "mpp_missing", "mpp_implausible"),
    *(TIMEOUT, OUT_OF_MEMORY, WORKER_DIED),
}
"""Reason codes of failures that the slide's own file causes. They come again as long as the file,
the model and the settings stay the same."""

_COMPARED = 8
"""Number of other slides that are read to find out if storage works, those of the same folder
first."""

_MEND = "repair the disk or the network with the slides, then run the same command again"
"""Advice for storage that fails."""

_MAYBE_UNWRITABLE = {"store", "internal_error"}
"""Reason codes of failures that a disk which cannot be written may have caused."""


class FaultOrigin:
    """Tells failures of a slide from failures of the folders that a run depends on.

    Args:
        entries: slides of the run.
        out: folder of results.
        lease: lease on that folder.
    """

    def __init__(self, entries: Sequence[SlideEntry], out: Path, lease: Lease) -> None:
        self._out, self._lease = out, lease
        self._entries = entries
        self._source = _common_folder([entry.path for entry in entries])
        folders = {entry.path.parent for entry in entries}
        self._file_systems = {folder: _file_system(folder) for folder in folders}

    def not_the_slide(
        self, failure: Failure, slide: Path, troubled: Collection[str] = ()
    ) -> str | None:
        """Return why a failure is not the slide's; None if it is.

        The machine is the cause if no process can compute, if results cannot be written, or if the
        disk with the slides has gone or answers with errors.

        Args:
            failure: failure of one of the slide's steps, after its last attempt.
            slide: path of the slide's file.
            troubled: ids of other slides that met errors of storage meanwhile.
        """
        if failure.reason in (OUTPUT_LOST, ENGINE_LOST):
            return failure.message
        if why := self.folder_lost():
            return why
        if failure.reason in _MAYBE_UNWRITABLE and (why := _unwritable(self._out)):
            return f"{why}; {failure.message}"
        if self._source and _is_gone(self._source):
            return f"the folder of the slides has gone: {self._source}; mount it again"
        folder = slide.parent
        if _is_gone(folder) and _file_system(folder) != self._file_systems[folder]:
            return f"the disk with {slide} has gone; mount it again"
        return self._storage_fails(failure, slide, troubled)

    def _storage_fails(
        self, failure: Failure, slide: Path, troubled: Collection[str]
    ) -> str | None:
        """Return the message of an error of storage if storage as a whole fails; else None.

        It fails if another slide cannot be read either, or if more slides met errors than can be
        read. If there is no other slide, several parts of this one are read: one part that can be
        read shows that storage works.
        """
        if failure.reason != StorageError.reason:
            return None
        others = [entry for entry in self._entries if entry.path != slide]
        well = [entry.path for entry in others if entry.slide_id not in troubled]
        well = sorted(well, key=lambda path: path.parent != slide.parent)[:_COMPARED]
        for path in well:
            if error := probe(path).error:
                return (
                    f"{failure.message}; {path} cannot be read either ({error.strerror}); {_MEND}"
                )
        if len(troubled) > len(well):
            return f"{failure.message}; {len(troubled)} other slides met such errors; {_MEND}"
        alone = probe(slide)
        all_fail = not others and alone.failed == alone.samples
        return f"{failure.message}; {_MEND}" if all_fail else None

    def folder_lost(self) -> str | None:
        """Return why the folder of results must not be written to any more; None if it may be."""
        try:
            held = self._lease.held
        except OSError as error:
            return f"{self._out} cannot be reached: {error.strerror or error}"
        return None if held else f"{self._out} has gone, or another run has taken it over"


def blamed(failure: Failure) -> Failure:
    """Failure of a slide, once the machine was found not to be the cause.

    A file that alone meets errors of storage is ``unreadable``.
    """
    if failure.reason != StorageError.reason:
        return failure
    message = (
        f"{failure.message}. Other slides can be read, so a part of the disk under this file is "
        "damaged: copy the file again from where it was scanned or archived, then run with "
        "--retry-failed"
    )
    return replace(failure, reason=SlideReadError.reason, message=message)


def stays_failed(reason: str) -> bool:
    """Tell if an unchanged slide keeps a failure in the next run; else the next run tries it again.

    A failure stays if the slide's own file caused it. A file that was missing or was still being
    written, a full disk, a lost engine or a defect of Noctile may be mended by then.

    Args:
        reason: reason code of the failure.
    """
    return reason in _OWN_REASONS


def _common_folder(paths: list[Path]) -> Path | None:
    """Folder that holds all slides; None if there is one slide, or no such folder."""
    try:
        folder = Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # no path, or paths on several drives
        return None
    return folder if len(paths) > 1 and not _is_gone(folder) else None


def _file_system(folder: Path) -> int | None:
    """Number of the file system of a folder or its nearest existing parent; None on errors."""
    for path in (folder, *folder.parents):
        try:
            return path.stat().st_dev
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
    return None


def _is_gone(folder: Path) -> bool:
    """Tell if a folder does not exist or is empty, like the mount point of an unmounted disk."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _unwritable(folder: Path) -> str | None:
    """Return why a test file cannot be written to a folder; None if it can."""
    probe = folder / f".probe.{os.getpid()}.tmp"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"results cannot be written to {folder}: {error.strerror or error}"
    finally:
        with suppress(OSError):
            probe.unlink()
    return None
