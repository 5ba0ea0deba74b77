"""Results that stand in a folder, read independently of the code that writes them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OF_THE_CALL = {"slide_id", "path", "modified", "content_sha256", "run", "mpp_given"}
"""Fields of a summary that are no property of content, model and settings."""


@dataclass(frozen=True)
class Stand:
    """A result that stands.

    Attributes:
        content: number of the slide's content.
        choice: number of model and settings.
    """

    content: int
    choice: int


@dataclass(frozen=True)
class Golden:
    """Result of a run that nothing disturbs.

    Attributes:
        shards: hash of the name and the bytes of each shard of the masks.
        summary: figures.
    """

    shards: str
    summary: dict[str, Any]


def golden_of(folder: Path) -> Golden:
    """Read the result in the folder of a slide."""
    shards = hashlib.sha256()
    for path in sorted(folder.glob("*.ome.zarr/**/c/**/*")):
        if path.is_file():
            shards.update(f"{path.relative_to(folder)} ".encode() + path.read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    figures = {name: value for name, value in summary.items() if name not in _OF_THE_CALL}
    return Golden(shards.hexdigest(), figures)


def file_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of modification of every file of a result; not of a killed writer's."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("[!.]*")
        if path.is_file() and not {".replaced", ".partial"} & {*path.parts, path.suffix}
    }


def folders_that_stand(out: Path) -> dict[str, Path]:
    """Folder of each slide that has a summary.

    A kill between the two renames that replace a result leaves the old one, and the new one, in
    staging. The next command completes the replacement.
    """
    found = {path.parent.name: path.parent for path in out.glob("slides/*/summary.json")}
    for path in sorted(out.glob(".staging/*")):
        if not (out / "slides" / path.name).exists() and (path / ".replaced").is_dir():
            whole = path if (path / "summary.json").exists() else path / ".replaced"
            found[path.name] = whole
    return found
