"""Where results stand, and how they are written: to a temporary name first, then renamed, never half."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError


@dataclass(frozen=True, slots=True)
class SlideFolder:
    """The results of one slide: ``OUT/slides/<slide_id>/``."""

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
    def tiles(self) -> Path:
        """One row a tile."""
        return self.path / "tiles.parquet"

    @property
    def preview(self) -> Path:
        """Overview beside overlay."""
        return self.path / "preview.jpg"

    @property
    def summary(self) -> Path:
        """The slide in figures; written last: a slide with a summary is done."""
        return self.path / "summary.json"

    @property
    def complete(self) -> bool:
        """Whether everything stands that a finished slide has."""
        everything = (self.summary, self.plan, self.tissue, self.mask, self.heat, self.tiles, self.preview)
        return all(p.exists() for p in everything)

    def clear(self) -> None:
        """Remove what Noctile wrote here, the summary first; anything else stays where it is."""
        for path in (self.summary, self.plan, self.tissue, self.preview, self.tiles):
            path.unlink(missing_ok=True)
        for path in (self.mask, self.heat):
            shutil.rmtree(path, ignore_errors=True)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary name beside ``path``, then rename; readers see all or nothing.

    Raises:
        StoreError: if the file system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}; free space or fix its folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON that people can read, atomically.

    Raises:
        StoreError: if the file system refuses.
    """
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote; None if there is no such file.

    Raises:
        StoreError: if it is not JSON (somebody else wrote it).
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}; delete it to have the slide done again") from error
    return values
