"""Checksums: size and sha256 of every file of a finished slide.

A run compares the sizes before it takes a slide for done; ``noctile verify`` compares the sha256.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.masks.shard import PARTIAL
from noctile.pipeline.models.folder import sha256_of
from noctile.workflows.results.durable import sync_folder
from noctile.workflows.results.files import json_text, read_json, read_whole_json, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.summaries import is_sound


def write_with_checksums(folder: SlideFolder, summary: dict[str, Any]) -> None:
    """Write ``checksums.json``, then ``summary.json``, whose checksum is among the others.

    The summary comes last: a slide that has one is done. All other files must be on the disk
    already; afterwards these two are as well.

    Args:
        folder: folder of the slide.
        summary: contents of ``summary.json``.

    Raises:
        StoreError: if a file cannot be read or written.
    """
    text = json_text(summary).encode()
    try:
        files = kept_files(folder)
        sums = {name: sha256_of(path) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        sums[folder.summary.name] = hashlib.sha256(text).hexdigest()
        sizes[folder.summary.name] = len(text)
        record = {"files": dict(sorted(sums.items())), "bytes": dict(sorted(sizes.items()))}
        write_json(folder.checksums, {"algorithm": "sha256", **record})
        sync_folder(folder.path)
        write_json(folder.summary, summary)
        sync_folder(folder.path)
    except OSError as error:
        raise StoreError(
            f"{folder.path} cannot be read back: {error}; delete it and run again"
        ) from error


def read_checksums(folder: SlideFolder) -> dict[str, str] | None:
    """Read the sha256 of each file, by its name in the folder; None if there is no record.

    Raises:
        StoreError: if the record itself is damaged.
    """
    recorded = read_json(folder.checksums)
    if recorded is None:
        return None
    files = recorded.get("files") if isinstance(recorded, dict) else None
    if not isinstance(files, dict) or recorded.get("algorithm") != "sha256":
        raise StoreError(f"{folder.checksums} is damaged: it holds no sha256 of any file")
    return files


def slide_fault(folder: SlideFolder) -> str | None:
    """Return what is wrong with the files of a slide that should be done; None if they are whole.

    Sizes are compared, and no content is read but the summary and the record. Files of the user in
    the folder do not matter.

    Raises:
        StoreError: if the disk cannot read a file.
    """
    summary = read_whole_json(folder.summary)
    if not summary or not is_sound(summary):
        what = "not as noctile writes it" if summary else _condition(folder.summary)
        return f"{folder.summary.name} is {what}"
    if missing := [path.name for path in folder.required if not path.exists()]:
        return f"{missing[0]} is missing"
    record = read_whole_json(folder.checksums)
    if record is None and folder.checksums.exists():
        return f"{folder.checksums.name} is {_condition(folder.checksums)}"
    if record is not None and not isinstance(record.get("files"), dict):
        return f"{folder.checksums.name} is not as noctile writes it"
    sizes = (record or {}).get("bytes")
    if isinstance(sizes, dict):
        return wrong_size(folder, sizes)
    empty = [name for name, path in kept_files(folder).items() if not path.stat().st_size]
    return f"{empty[0]} is empty" if empty else None


def wrong_size(folder: SlideFolder, sizes: Mapping[str, int]) -> str | None:
    """Return the first file that is missing or has another size than recorded; None if none is.

    Args:
        folder: folder of the slide.
        sizes: size of each file (B), by its name in the folder.

    Raises:
        StoreError: if the disk does not answer.
    """
    for name, size in sizes.items():
        try:
            found = (folder.path / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except OSError as error:
            raise StoreError(f"{folder.path / name} cannot be read: {error}") from error
        if found != size:
            return f"{name} has {found} bytes, not {size}"
    return None


def _condition(path: Path) -> str:
    """Condition of a JSON file that cannot be read as one: missing, empty or torn."""
    if not path.exists():
        return "missing"
    return "torn" if path.stat().st_size else "empty"


def kept_files(folder: SlideFolder) -> dict[str, Path]:
    """Return the files of a finished slide, by their name in its folder.

    Summary, checksums, files of killed writers and files of the user are not among them.
    """
    first = (folder.plan, folder.tissue, folder.roi, folder.block_stats_file)
    single = (*first, folder.tiles, folder.preview)
    deep = (
        path
        for root in (folder.mask, folder.heat)
        for path in root.rglob("*")
        if path.suffix != PARTIAL
    )
    return {
        p.relative_to(folder.path).as_posix(): p for p in sorted([*single, *deep]) if p.is_file()
    }
