"""Checksums: the sha256 of every file of a finished slide, which ``noctile verify`` compares."""

import hashlib
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.masks.shard import PARTIAL
from noctile.pipeline.models.folder import sha256_of
from noctile.workflows.results.files import json_text, read_json, write_json
from noctile.workflows.results.layout import SlideFolder


def write_with_checksums(folder: SlideFolder, summary: dict[str, Any]) -> None:
    """Write ``checksums.json``, then ``summary.json``, whose checksum is among the others.

    The summary comes last: a slide that has one is done.

    Args:
        folder: folder of the slide.
        summary: contents of ``summary.json``.

    Raises:
        StoreError: if a file cannot be read or written.
    """
    try:
        sums = {name: sha256_of(path) for name, path in kept_files(folder).items()}
    except OSError as error:
        raise StoreError(
            f"{folder.path} cannot be read back: {error}; delete it and run again"
        ) from error
    sums[folder.summary.name] = hashlib.sha256(json_text(summary).encode()).hexdigest()
    write_json(folder.checksums, {"algorithm": "sha256", "files": dict(sorted(sums.items()))})
    write_json(folder.summary, summary)


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


def kept_files(folder: SlideFolder) -> dict[str, Path]:
    """Return the files of a finished slide, by their name in its folder.

    Summary, checksums, files of killed writers and files of the user are not among them.
    """
    single = (folder.plan, folder.tissue, folder.block_stats_file, folder.tiles, folder.preview)
    deep = (
        path
        for root in (folder.mask, folder.heat)
        for path in root.rglob("*")
        if path.suffix != PARTIAL
    )
    return {
        p.relative_to(folder.path).as_posix(): p for p in sorted([*single, *deep]) if p.is_file()
    }
