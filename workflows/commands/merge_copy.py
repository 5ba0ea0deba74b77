"""Copy of a finished slide into another folder of results, compared with its checksums."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.preview import preview_of
from noctile.pipeline.untrusted import open_regular, parse_json
from noctile.workflows.commands.verify_slide import strange_files
from noctile.workflows.jobs.finish import write_preview
from noctile.workflows.jobs.worker import planned_roi
from noctile.workflows.results.checksums import (
    kept_files,
    read_checksums,
    slide_fault,
    write_with_checksums,
)
from noctile.workflows.results.durable import sync_names
from noctile.workflows.results.files import is_temporary, read_required_json, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.staging import remove

_PIECE_BYTES = 2**20


class DamagedResultError(Exception):
    """A result is not as it was written, or cannot be read; it is not copied."""


def copy_result(source: SlideFolder, staged: SlideFolder) -> None:
    """Copy a finished slide into a staging folder, under the id that names this folder.

    The copy is complete and on the disk afterwards. A copy under another id has this id in its
    plan, summary, mask attributes and preview, and new checksums. Files of the user are not copied.

    Args:
        source: folder of the slide; it is only read.
        staged: staging folder; what is in it is removed first.

    Raises:
        DamagedResultError: if a file is missing, is a link, or differs from its checksum.
        StoreError: if the file system refuses the copy.
    """
    try:
        sums = checked_record(source)
        remove(staged)
        staged.path.mkdir(parents=True, exist_ok=True)
        last = staged.plan.name, staged.summary.name
        first = [name for name in sums if name not in last]
        for name in first:
            copy_file(source.path / name, staged.path / name, sums[name])
        sync_names((staged.path / name for name in first), staged.path)
        copy_file(source.plan, staged.plan, sums[source.plan.name])
        if staged.path.name == source.path.name:
            copy_file(source.checksums, staged.checksums, None)
            sync_names([staged.checksums], staged.path)
            copy_file(source.summary, staged.summary, sums[source.summary.name])
        else:
            _rename(source, staged, sums[source.summary.name])
        if fault := slide_fault(staged):
            raise DamagedResultError(fault)
    except BaseException as error:
        with suppress(OSError):
            remove(staged)
        if isinstance(error, OSError):
            raise StoreError(
                f"{staged.path} cannot be written: {error.strerror or error}; free space or fix "
                "its folder, and type the same command again"
            ) from error
        raise


def size_of(source: SlideFolder) -> int:
    """Return the size of all files of a slide (B)."""
    try:
        return sum(path.lstat().st_size for path in kept_files(source).values())
    except OSError:  # `copy_result` names the file
        return 0


def check_space(out: Path, needed: int) -> None:
    """Check that results fit on a disk.

    Args:
        out: folder that they come to.
        needed: their size (B).

    Raises:
        UsageError: if they do not.
    """
    free = shutil.disk_usage(out).free
    if needed > free:
        raise UsageError(
            f"--out {out} needs about {needed / 1e9:.1f} GB more, and its disk has "
            f"{free / 1e9:.1f} GB free; free space, or choose another --out"
        )


def checked_record(source: SlideFolder) -> dict[str, str]:
    """Read the sha256 of each file of a slide by its name, if it names the files that are there.

    Raises:
        DamagedResultError: if it does not.
    """
    try:
        if strange := next(strange_files(source), None):
            raise DamagedResultError(f"{strange.file} {strange.what}")
        sums = read_checksums(source)
        found = {**kept_files(source), source.summary.name: source.summary}
    except (OSError, StoreError) as error:
        raise DamagedResultError(str(error)) from error
    if sums is None:
        raise DamagedResultError(f"{source.checksums.name} is missing")
    names = {name for name, path in found.items() if not is_temporary(path)}
    if missing := sorted({*sums, *(path.name for path in _needed(source))} - names):
        raise DamagedResultError(f"{missing[0]} is missing")
    if surplus := sorted(names - sums.keys()):
        raise DamagedResultError(f"{surplus[0]} was not there when the slide was finished")
    return sums


def _needed(source: SlideFolder) -> list[Path]:
    """Files, not folders, that every result has."""
    return [path for path in source.required if path not in (source.mask, source.heat)]


def check_sums(source: SlideFolder, sums: dict[str, str]) -> None:
    """Compare every file of a slide with its sha256.

    Args:
        source: folder of the slide.
        sums: sha256 of each file, by its name in the folder.

    Raises:
        DamagedResultError: if a file cannot be read or has another hash.
    """
    for name, sha256 in sums.items():
        digest = hashlib.sha256()
        for piece in _pieces(source.path / name):
            digest.update(piece)
        if digest.hexdigest() != sha256:
            raise DamagedResultError(f"{name} is not what was written: its checksum differs")


def copy_file(source: Path, target: Path, sha256: str | None) -> None:
    """Copy the content of a file, and sync it.

    Args:
        source: the file.
        target: path of the copy.
        sha256: hash that the content must have; None for any content.

    Raises:
        DamagedResultError: if the file cannot be read or has another hash.
        OSError: if the copy cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for piece in _pieces(source):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if sha256 not in (None, digest.hexdigest()):
        raise DamagedResultError(f"{source.name} is not what was written: its checksum differs")


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise DamagedResultError(f"{path.name} cannot be read: {error.strerror}") from error


def _rename(source: SlideFolder, staged: SlideFolder, summary_sha256: str) -> None:
    """Write the id of a copy into each file that holds the id, then checksums and summary.

    Args:
        source: folder of the slide.
        staged: its copy, without summary and checksums.
        summary_sha256: hash that the summary must have.

    Raises:
        DamagedResultError: if a file does not hold the values of its kind.
        StoreError: if the file system refuses.
    """
    slide_id = staged.path.name
    try:
        summary = _read_summary(source, summary_sha256) | {"slide_id": slide_id}
        described = read_required_json(staged.plan)
        described["slide"]["slide_id"] = described["plan"]["slide_id"] = slide_id
        attributes = dict(_renamed_attributes(staged, slide_id))
        store, roi = MaskStore.open(staged.mask), planned_roi(staged, described)
        preview = preview_of(store, slide_id, summary["class_area_mm2"], roi)
        laid_out = list(described.get("files") or {})
    except (StoreError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise DamagedResultError(f"it cannot be given the id {slide_id}: {error!s:.200}") from error
    for path, values in attributes.items():
        write_json(path, values)
    write_preview(staged, preview)
    described["files"] = {name: (staged.path / name).stat().st_size for name in laid_out}
    write_json(staged.plan, described)
    sync_names([staged.plan, *attributes], staged.path)
    write_with_checksums(staged, summary)


def _read_summary(source: SlideFolder, sha256: str) -> dict[str, Any]:
    text = b"".join(_pieces(source.summary))
    if hashlib.sha256(text).hexdigest() != sha256:
        raise DamagedResultError("summary.json is not what was written: its checksum differs")
    summary: dict[str, Any] = parse_json(text)
    return summary


def _renamed_attributes(folder: SlideFolder, slide_id: str) -> Iterator[tuple[Path, Any]]:
    """Contents of each ``zarr.json`` that holds the id of the slide, with another id."""
    for path in (*folder.mask.rglob("zarr.json"), *folder.heat.rglob("zarr.json")):
        values = read_required_json(path)
        about = values.get("attributes", {}).get("noctile", {}).get("slide", {})
        if "slide_id" in about:
            about["slide_id"] = slide_id
            yield path, values
