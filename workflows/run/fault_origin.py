"""Where a run reads and writes: that it replaces nobody's files, whose fault it is when that fails,
and its reports.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.engines.base import ENGINE_LOST, OUTPUT_LOST, Failure
from noctile.workflows.results.layout import (
    SLIDES,
    STAGING,
    SlideFolder,
    read_json,
    sweep,
    write_atomic,
)
from noctile.workflows.results.lease import Lease
from noctile.workflows.run.schedule import Step

_PROBE_BYTES = 2**20
"""What must fit on the disk for a failed write to be a slide's own fault (B); libraries hide that
it was full."""

_WRITING = {"store", "internal_error"}
"""Reason codes behind which a disk may hide that cannot be written."""


_WRITTEN = ("ledger.jsonl", "plan.csv", "run.json", "slides.csv", "slides.parquet")
"""The files that a run writes beside its slides' folders."""


def check_free(out: Path) -> None:
    """See that a run in a folder replaces nothing that no run has written.

    Raises:
        UsageError: if it would.
        OSError: if the folder cannot be read.
    """
    if _is_ledger(out / "ledger.jsonl") or _is_report(out / "run.json"):
        return
    foreign = [name for name in _WRITTEN if (out / name).exists()]
    folders = [
        name for name in (SLIDES, STAGING) if (out / name).is_dir() and any((out / name).iterdir())
    ]
    foreign += [f"a folder {name} with something in it" for name in folders]
    if foreign:
        raise UsageError(
            f"--out {out} holds {', '.join(foreign)}, and no run of noctile has been there: it would overwrite what is "
            "somebody else's. Choose another --out, or move that away"
        )


def check_manifest(manifest: Path | None, out: Path) -> None:
    """See that the manifest is not where a run writes its tables.

    Raises:
        UsageError: if it is.
    """
    if manifest and any(
        (out / name).exists() and (out / name).samefile(manifest) for name in _WRITTEN
    ):
        raise UsageError(
            f"manifest {manifest} has the name and the place of a table that the run writes, and would be overwritten; "
            "rename it, or choose another --out"
        )


def _is_ledger(path: Path) -> bool:
    """Whether a file begins as a ledger does, or as one that was cut short by a crash."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith((b'{"time":', b"\0")) or not head


def _is_report(path: Path) -> bool:
    """Whether a file is the ``run.json`` of a run: then its ledger has been lost, and its results
    are there.
    """
    try:
        return {"settings", "model", "versions"} <= (read_json(path) or {}).keys()
    except StoreError:
        return False


class FaultOrigin:
    """The folders that a run depends on.

    Args:
        entries: the slides.
        out: the output folder.
        lease: on it.
    """

    def __init__(self, entries: Sequence[SlideEntry], out: Path, lease: Lease) -> None:
        self._out, self._lease = out, lease
        self._source = _common_folder([entry.path for entry in entries])
        self._disks = {folder: _disk(folder) for folder in {entry.path.parent for entry in entries}}

    def why_not_its_fault(self, failure: Failure, slide: Path) -> str | None:
        """Why a failure is no slide's: nobody computes, results cannot be written, its disk has
        gone; or None.

        Args:
            failure: how it failed.
            slide: its file, one of the entries'.
        """
        if failure.reason in (OUTPUT_LOST, ENGINE_LOST):
            return failure.message
        if why := self.why_not_ours():
            return why
        if failure.reason in _WRITING and (why := _why_unwritable(self._out)):
            return f"{why}; {failure.message}"
        if self._source and _is_gone(self._source):
            return f"the folder of the slides has gone: {self._source}; mount it again"
        if _is_gone(slide.parent) and _disk(slide.parent) != self._disks[slide.parent]:
            return f"the disk with {slide} has gone; mount it again"
        return None

    def why_not_ours(self) -> str | None:
        """Why the output folder must not be written to any more; None if it may be."""
        try:
            return (
                None
                if self._lease.held
                else f"{self._out} has gone, or another run has taken it over"
            )
        except OSError as error:
            return f"{self._out} cannot be reached: {error.strerror or error}"

    def note_failure(self, step: Step, failure: Failure) -> None:
        """Write the report of a slide that failed to ``failures/``.

        Raises:
            StoreError: if the file system refuses.
        """
        block = f" of block {step.block[0]}, {step.block[1]}" if step.block else ""
        text = (
            f"slide: {step.slide_id}\nreason: {failure.reason}\nmessage: {failure.message}\n"
            f"step: {step.kind}{block}\n\n{failure.traceback}"
        )
        path = self._report(step.slide_id)
        write_atomic(
            path, lambda p: p.write_text(text, encoding="utf-8", errors="backslashreplace")
        )

    def clean(self, folder: SlideFolder) -> None:
        """Remove what a slide that is done needs no more.

        That is reports of its failures, files of killed writers and the result that it has
        replaced.

        Raises:
            OSError: if the file system refuses.
        """
        for path in (folder.failure, self._report(folder.path.name)):
            path.unlink(missing_ok=True)
        sweep(folder.path)
        folder.settle()

    def _report(self, slide_id: str) -> Path:
        return self._out / "failures" / f"{slide_id}.txt"


def seen(path: Path) -> list[int] | None:
    """Size and time of a file, without opening it: that could hang; None if it is not there."""
    try:
        about = path.stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]


def _common_folder(paths: list[Path]) -> Path | None:
    """The folder that all slides stand in, if there are several and it is there."""
    try:
        folder = Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # none, or on several drives
        return None
    return folder if len(paths) > 1 and not _is_gone(folder) else None


def _disk(folder: Path) -> int | None:
    """The number of the file system that a folder is on, or would be on; None if that does not
    answer.
    """
    for place in (folder, *folder.parents):
        try:
            return place.stat().st_dev
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return None
    return None


def _is_gone(folder: Path) -> bool:
    """Whether a folder is not there or empty, as the place of a disk is that is not mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def _why_unwritable(folder: Path) -> str | None:
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
