"""Result of one slide as the formats of exports read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.ngff import level0_affine
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.qupath import level0_scale


@dataclass(frozen=True)
class ExportSource:
    """Result of one slide: its masks and its figures.

    Attributes:
        slide_id: id of the slide in its folder of results.
        slide_path: path of the slide's file, which may have moved or gone.
        store: masks of the slide.
        summary: content of ``summary.json``.
    """

    slide_id: str
    slide_path: Path
    store: MaskStore
    summary: Mapping[str, Any]

    @classmethod
    def open(cls, mask: Path, summary: Mapping[str, Any]) -> "ExportSource":
        """Open the result of a slide.

        Args:
            mask: the folder ``mask.ome.zarr``; the folder that holds it has the slide's id as name.
            summary: content of ``summary.json``.

        Raises:
            StoreError: if the masks cannot be opened.
        """
        path = Path(str(summary.get("path") or mask.parent.name))
        return cls(mask.parent.name, path, MaskStore.open(mask), summary)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """Size (px) and pixel size (um) of each level of the label map, finest first."""
        return self.store.layout.level_frames

    @cached_property
    def classes(self) -> tuple[ClassInfo, ...]:
        """Classes of the label map, sorted by their codes."""
        return tuple(sorted(self.store.layout.classes, key=lambda info: info.code))

    @cached_property
    def class_area_mm2(self) -> dict[str, float]:
        """Area of each class (mm2), by its name.

        Raises:
            StoreError: if the summary is damaged.
        """
        areas = self.summary.get("class_area_mm2")
        if not isinstance(areas, dict) or not all(map(_is_number, areas.values())):
            raise self._damage("class_area_mm2")
        return {str(name): float(mm2) for name, mm2 in areas.items()}

    @property
    def mpp(self) -> tuple[float, float]:
        """Height and width of a level-0 pixel (um).

        Raises:
            StoreError: if the summary is damaged.
        """
        mpp_y, mpp_x = self._numbers("mpp", 2)
        if min(mpp_y, mpp_x) <= 0:
            raise self._damage("mpp")
        return mpp_y, mpp_x

    @property
    def bounds_px(self) -> tuple[int, int, int, int]:
        """Scanned region in level 0 of the slide's file (px): y, x, height, width.

        Raises:
            StoreError: if the summary is damaged.
        """
        y, x, height, width = map(int, self._numbers("bounds_px", 4))
        return y, x, height, width

    @property
    def level0_affine(self) -> list[list[float]]:
        """Two rows of three numbers that lead from the label map to level 0 of the file (px).

        Positions are y, x and count from pixel edges; the bounds are added.

        Raises:
            StoreError: if the summary is damaged.
        """
        about = {"mpp": list(self.mpp), "bounds_px": list(self.bounds_px)}
        return level0_affine(self.frames[0], about)

    @property
    def qupath_scale(self) -> tuple[float, float]:
        """Scale (y, x) from the label map to level-0 pixels of the slide as QuPath opens it.

        Raises:
            StoreError: if the summary is damaged.
        """
        return level0_scale(self.frames[0], *self.mpp)

    def figure(self, name: str) -> float:
        """Number of the summary.

        Raises:
            StoreError: if the summary is damaged.
        """
        value = self.summary.get(name)
        if not _is_number(value):
            raise self._damage(name)
        return float(value)  # type: ignore[arg-type]

    def _numbers(self, name: str, length: int) -> list[float]:
        values = self.summary.get(name)
        if isinstance(values, list) and len(values) == length and all(map(_is_number, values)):
            return values
        raise self._damage(name)

    def _damage(self, name: str) -> StoreError:
        """Error that names a value of the summary."""
        folder = self.store.path.parent
        return StoreError(
            f"{folder / 'summary.json'} is damaged: its value of {name} is not as Noctile writes "
            f"it; delete {folder} to have the slide done again"
        )


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]
