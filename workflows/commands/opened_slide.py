"""Result of one slide, opened for a program: masks, areas, positions, pictures and tables."""

from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.ngff import level0_affine
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.parquet import read_parquet
from noctile.pipeline.region_table import region_table
from noctile.workflows.commands.frames import to_frame
from noctile.workflows.jobs.worker import load_picture
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.review_rows import SlideReview
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.summaries import are_regions

if TYPE_CHECKING:
    import pandas as pd
    import zarr

_PREVIEW_PX = 2**26
"""Largest preview that is decoded (px)."""

_Figure = TypeVar("_Figure", bound=dict[str, Any] | list[Any])

Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""y and x of positions (px), both float64 of the shape that was given."""


class SlideResult:
    """Result of one slide. Everything is read when it is asked for.

    `noctile.open` makes it. A result never changes, and nothing here writes to it.

    Attributes:
        slide_id: name of the slide in its folder of results.
        path: folder of the result.
    """

    def __init__(self, folder: SlideFolder) -> None:
        self._folder = folder
        self.slide_id, self.path = folder.path.name, folder.path

    def __repr__(self) -> str:
        """Name the slide, and the size of its label map."""
        extent = self.frames[0].extent
        return f"<SlideResult {self.slide_id}: {extent.height} x {extent.width} px>"

    def mask(self, level: int = 0) -> "zarr.Array[Any]":
        """Open a level of the label map.

        ``result.mask()[200:712, 300:812]`` reads a region, ``numpy.asarray(result.mask(3))`` a
        level, and ``dask.array.from_zarr(result.mask())`` makes a dask array. The finest level of a
        large slide has gigabytes.

        Args:
            level: pyramid level: 0 is the finest, and each further one is half as fine.

        Returns:
            uint8 ``[h, w]``, read when it is indexed: codes of ``classes``, 0 = not analysed.

        Raises:
            StoreError: if it cannot be opened.
            ValueError: if there is no such level.
        """
        return self._store.label_array(level)

    def heat(self) -> "zarr.Array[Any]":
        """Open the heat maps, in which a pixel stands for 8 x 8 pixels of the finest label map.

        Returns:
            uint8 ``[2, h, w]``, read when it is indexed: the tumor's probability x 255, and the
            probability of the predicted class x 255.

        Raises:
            StoreError: if they cannot be opened.
        """
        return self._store.heat_array()

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """Size (px) and pixel size (um) of each level of the label map, finest first."""
        return self._store.layout.level_frames

    @cached_property
    def classes(self) -> dict[int, ClassInfo]:
        """Name, colour and role of each class, by its code in the label map."""
        return {info.code: info for info in sorted(self._store.layout.classes, key=_code)}

    @cached_property
    def area_mm2(self) -> dict[str, float]:
        """Area of each class (mm2), by its name."""
        areas = self._figure("class_area_mm2", dict)
        if not all(isinstance(mm2, int | float) for mm2 in areas.values()):
            raise self._damage("class_area_mm2")
        return {name: float(mm2) for name, mm2 in areas.items()}

    def to_level0(self, y: npt.ArrayLike, x: npt.ArrayLike, level: int = 0) -> Positions:
        """Convert positions in the label map to positions in level 0 of the slide's file.

        Positions count from pixel edges: pixel ``i`` covers ``i`` to ``i + 1``, and its centre is
        ``i + 0.5``. Level 0 is that of the file, with its bounds, as OpenSlide reads it. The reader
        of `noctile.open_slide` begins at the bounds, ``summary["bounds_px"]``.

        Args:
            y: row or rows in the label map (px), of any shape.
            x: column or columns in the label map (px), of the same shape.
            level: pyramid level in which they count.

        Returns:
            rows and columns in level 0 (px), float64 of the same shape.
        """
        (scale_y, _, top), (_, scale_x, left) = self._affine
        rows, columns = (np.asarray(value, np.float64) * 2**level for value in (y, x))
        return rows * scale_y + top, columns * scale_x + left

    def from_level0(self, y: npt.ArrayLike, x: npt.ArrayLike, level: int = 0) -> Positions:
        """Convert positions in level 0 of the slide's file to positions in the label map.

        The inverse of `to_level0`. The pixel at a position is its value, rounded down.

        Args:
            y: row or rows in level 0 (px), of any shape.
            x: column or columns in level 0 (px), of the same shape.
            level: pyramid level in which the returned positions count.

        Returns:
            rows and columns in the label map (px), float64 of the same shape.
        """
        (scale_y, _, top), (_, scale_x, left) = self._affine
        rows, columns = np.asarray(y, np.float64) - top, np.asarray(x, np.float64) - left
        return rows / (scale_y * 2**level), columns / (scale_x * 2**level)

    @property
    def thumbnail(self) -> UInt8:
        """The slide at about 8 um/px: RGB, uint8 ``[h, w, 3]``.

        Raises:
            StoreError: if it cannot be read.
        """
        return self._store.read_thumbnail()

    @property
    def thumbnail_frame(self) -> Frame:
        """Size (px) and pixel size (um) of ``thumbnail``; it shares its corner with the mask."""
        return self._store.thumbnail_frame

    @property
    def preview(self) -> Image.Image:
        """Picture of the thumbnail beside the coloured mask.

        Raises:
            StoreError: if it cannot be read.
        """
        try:
            return load_picture(self._folder.preview, "JPEG", _PREVIEW_PX)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._folder.preview} cannot be read: {error}") from error

    @property
    def tiles(self) -> "pd.DataFrame":
        """One row for each tile with tissue: position, size (um), class shares and confidence.

        Raises:
            StoreError: if the table cannot be read.
        """
        return to_frame(read_parquet(self._folder.tiles))

    @property
    def regions(self) -> "pd.DataFrame":
        """One row for each region of interest: name, class, and areas in it (mm2).

        Without regions it has no row. Their outlines are in ``roi.geojson`` of ``path``.

        Raises:
            StoreError: if the summary is damaged.
        """
        if not are_regions(self.summary.get("regions", [])):
            raise self._damage("regions")
        row = SlideRow(self.slide_id, self.path, "done", summary=self.summary)
        table = region_table([row], list(self.area_mm2))
        return to_frame(table.drop_columns(["patient_id", "group"]))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Figures, quality flags, origin and versions: the content of ``summary.json``.

        Raises:
            StoreError: if the file cannot be read.
        """
        return read_required_json(self._folder.summary)

    @property
    def review(self) -> SlideReview:
        """Status and note of each reviewer, and the regions that they leave out, as GeoJSON.

        Raises:
            StoreError: if the files of the reviews are damaged.
        """
        results = ResultsFolder(self.path.parent.parent)
        return Reviews(results, keeps_areas=False).of(self.slide_id)

    @cached_property
    def _store(self) -> MaskStore:
        return MaskStore.open(self._folder.mask)

    @cached_property
    def _affine(self) -> list[list[float]]:
        """Two rows of three numbers that lead from the label map to level 0 of the file (px)."""
        about = {name: self._figure(name, list) for name in ("mpp", "bounds_px")}
        if not all(isinstance(px, int | float) for px in chain(*about.values())):
            raise self._damage("mpp or bounds_px")
        try:
            return level0_affine(self.frames[0], about)
        except (ValueError, ZeroDivisionError) as error:
            raise self._damage("mpp or bounds_px") from error

    def _figure(self, name: str, kind: type[_Figure]) -> _Figure:
        """Value of the summary.

        Raises:
            StoreError: if it is missing or has another type.
        """
        value = self.summary.get(name)
        if not isinstance(value, kind):
            raise self._damage(name)
        return value

    def _damage(self, name: str) -> StoreError:
        """Error that names a value of the summary."""
        return StoreError(
            f"{self._folder.summary} is damaged: its value of {name} is not as Noctile writes it; "
            f"delete {self.path} to have the slide done again"
        )


def _code(info: ClassInfo) -> int:
    return info.code
