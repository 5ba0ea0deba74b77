"""Where results stand, and how they are written: to a temporary name first, then renamed, never
half.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.untrusted import parse_json

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\..+)?")
"""A hidden name with the writer's process number."""

STAGING = ".staging"
"""Name of the folder, inside the output folder, in which slides are made."""

SLIDES = "slides"
"""Name of the folder, inside the output folder, in which the slides that are done stand."""


@dataclass(frozen=True, slots=True)
class SlideFolder:
    """Files of one slide: ``OUT/slides/<slide_id>/``, or ``OUT/.staging/<slide_id>/`` while it is
    made.
    """

    path: Path

    @property
    def plan(self) -> Path:
        """What is to be predicted; written when the slide has been prepared."""
        return self.path / "plan.json"

    @property
    def tissue(self) -> Path:
        """The tissue mask, 0 or 255, at the tissue's pixel size."""
        return self.path / "tissue.png"

    @property
    def mask(self) -> Path:
        """Class label image with its overview."""
        return self.path / "mask.ome.zarr"

    @property
    def heat(self) -> Path:
        """Tumor probability and confidence."""
        return self.path / "heat.ome.zarr"

    @property
    def facts(self) -> Path:
        """What is to be known of each block beside its masks; what `block_stats` held, once all
        blocks are done.
        """
        return self.path / "blocks.json"

    @property
    def blocks(self) -> Path:
        """Folder of the same, a file a block, while blocks are being done."""
        return self.path / "blocks"

    def block_stats(self, block: tuple[int, int]) -> Path:
        """The file of the block at (row, col)."""
        return self.blocks / f"{block[0]}.{block[1]}.json"

    @property
    def tiles(self) -> Path:
        """One row a tile."""
        return self.path / "tiles.parquet"

    @property
    def preview(self) -> Path:
        """Overview beside overlay."""
        return self.path / "preview.jpg"

    @property
    def checksums(self) -> Path:
        """The sha256 of every other file here, the summary's too; written just before it."""
        return self.path / "checksums.json"

    @property
    def summary(self) -> Path:
        """The slide in figures; written last: a slide with a summary is done."""
        return self.path / "summary.json"

    @property
    def failure(self) -> Path:
        """Report of a failure as earlier versions left it here; now it stands in ``failures/``."""
        return self.path / "failure.txt"

    @property
    def replaced(self) -> Path:
        """Folder of the result that this one replaces, until `settle` has removed it."""
        return self.path / ".replaced"

    @property
    def everything(self) -> tuple[Path, ...]:
        """What a finished slide has, whatever version finished it."""
        return (
            self.summary,
            self.plan,
            self.tissue,
            self.facts,
            self.mask,
            self.heat,
            self.tiles,
            self.preview,
        )

    @property
    def complete(self) -> bool:
        """Whether everything stands that a finished slide has."""
        return all(path.exists() for path in self.everything)

    def clear(self) -> None:
        """Remove what Noctile wrote here, the summary first; anything else stays where it is."""
        single = (self.plan, self.tissue, self.facts, self.preview, self.tiles, self.failure)
        for path in (self.summary, self.checksums, *single):
            path.unlink(missing_ok=True)
        for path in (self.mask, self.heat, self.blocks):
            shutil.rmtree(path, ignore_errors=True)

    def remove(self) -> None:
        """Remove what Noctile wrote here, and the folder itself if nothing else is in it.

        Raises:
            OSError: if the file system refuses.
        """
        if not self.path.is_dir():
            return
        self.clear()
        sweep(self.path)
        with suppress(OSError):  # something else stands in it
            self.path.rmdir()

    def settle(self) -> None:
        """Remove the result that this one has replaced; files that Noctile did not write move over
        here first.

        Raises:
            OSError: if the file system refuses.
        """
        if not self.replaced.is_dir():
            return
        SlideFolder(self.replaced).clear()
        for path in sorted(self.replaced.iterdir()):
            if not is_temporary(path) and not (self.path / path.name).exists():
                path.replace(self.path / path.name)
        SlideFolder(self.replaced).remove()


def promote(staged: SlideFolder, place: SlideFolder) -> None:
    """Put a complete result in its place; the result that stood there before is removed last.

    The old result moves into the new one, the new one moves to its place, and the old one is
    removed. A kill between two of these steps loses neither: `heal` or `SlideFolder.settle` does
    the rest.

    Raises:
        StoreError: if the file system refuses.
    """
    try:
        if place.path.exists():
            place.settle()
            place.path.replace(staged.replaced)
        place.path.parent.mkdir(exist_ok=True)
        staged.path.replace(place.path)
        place.settle()
    except OSError as error:
        raise StoreError(
            f"{staged.path} cannot be moved to {place.path}: {error.strerror or error}; fix its folder and run again"
        ) from error


def heal(out: Path) -> None:
    """Finish every promotion in an output folder that a kill cut short. Only for when nobody writes
    there.

    Raises:
        StoreError: if the file system refuses a promotion.
        OSError: if it refuses anything else.
    """
    for path in sorted((out / STAGING).glob("*")):
        staged, place = SlideFolder(path), SlideFolder(out / SLIDES / path.name)
        if staged.complete:
            promote(staged, place)
        elif staged.replaced.is_dir() and not place.path.exists():
            staged.replaced.replace(place.path)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary name beside ``path``, then rename; readers see all or
    nothing.

    Raises:
        StoreError: if the file system refuses.
    """
    write_together({path: write})


def write_together(writers: Mapping[Path, Callable[[Path], object]]) -> None:
    """`write_atomic` for files that belong together: none is replaced before all are written.

    Raises:
        StoreError: if the file system refuses.
    """
    temporary = {
        path: path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}") for path in writers
    }
    path = Path()
    try:
        for path, write in writers.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary[path])
        for path in writers:
            temporary[path].replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}; free space or fix its folder"
        ) from error
    finally:
        for left in temporary.values():
            with suppress(
                OSError
            ):  # what kept it from being written may keep it from being removed
                left.unlink()


def is_temporary(path: Path) -> bool:
    """Whether a file has a name under which `write_atomic` writes: its writer is at work, or was
    killed.
    """
    return _TEMPORARY.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Remove what writers left in a folder that were killed. Only for when nobody writes there.

    Raises:
        OSError: if the file system refuses.
    """
    for path in folder.glob(".*"):
        if is_temporary(path):
            path.unlink(missing_ok=True)


def write_json(path: Path, values: Any, *, compact: bool = False) -> None:
    """Write plain values as JSON that people can read, or ``compact`` for many numbers, atomically.

    Raises:
        StoreError: if the file system refuses.
    """
    text = json.dumps(values, separators=(",", ":")) if compact else json_text(values)
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def json_text(values: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None if there is no such file.

    Raises:
        StoreError: if it is not JSON (somebody else wrote it).
    """
    try:
        values: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a JSON {type(values).__name__}, not an object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} is damaged: {error}; delete it to have the slide done again"
        ) from error
    return values
