"""Comparison of two results of one slide: figures, and a change map."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from noctile.pipeline.agreement import relative_difference
from noctile.pipeline.diff import Alignment, PairCounter, PairCounts
from noctile.pipeline.errors import StoreError
from noctile.pipeline.models.folder import sha256_of
from noctile.workflows.commands.diff_map import ChangeMap
from noctile.workflows.commands.diff_pixels import CommonGrid, DiffSide
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.staging import promote, remove
from noctile.workflows.settings import short_hash

_VERSION = 1
"""Version of the figures and change maps, raised when the same results give other ones."""

_MOST_STRETCH = 0.05
"""Largest relative difference of two scanned regions that is no reason for a note."""


@dataclass(frozen=True, slots=True)
class DiffJob:
    """Comparison of two results of a slide.

    Attributes:
        key: id of the slide in the folder of the comparison.
        a: folder of the first result.
        b: folder of the second result.
        out: folder of the comparison.
        alignment: coordinates that both label maps share.
        limit_s: longest time that it may take (s).
    """

    key: str
    a: Path
    b: Path
    out: Path
    alignment: Alignment
    limit_s: float = inf

    @property
    def group(self) -> str:
        """Id of the slide: each comparison is a group of its own."""
        return self.key


def content_key(job: DiffJob) -> str:
    """Return a hash of all that a comparison depends on.

    Raises:
        StoreError: if a result cannot be read.
    """
    try:
        sums = [sha256_of(_record(SlideFolder(path))) for path in (job.a, job.b)]
    except OSError as error:
        raise StoreError(f"{job.key} cannot be read: {error}") from error
    return short_hash(["diff", _VERSION, job.alignment, *sums])


def _record(folder: SlideFolder) -> Path:
    """File that changes with every file of a result."""
    return folder.checksums if folder.checksums.is_file() else folder.summary


def compare_pair(job: DiffJob) -> None:
    """Compare two results, and write the change map with the figures in its summary.

    Raises:
        StoreError: if a result cannot be read, or the change map cannot be written.
    """
    results = ResultsFolder(job.out)
    staged, final = results.staged(job.key), results.slide(job.key)
    try:
        remove(staged)
        key, a, b = content_key(job), DiffSide(job.a), DiffSide(job.b)
        grid = CommonGrid(a, b, job.alignment)
        origin = {"a": str(job.a), "b": str(job.b), "alignment": job.alignment}
        change_map = ChangeMap(staged, grid.grid, key, origin)
        counter = PairCounter(a.classes, b.classes)
        for block in grid.blocks():
            change_map.add(block.box, _count(counter, block.a, block.b, job))
        counts = PairCounts(a.classes, b.classes, counter.pixels)
        flags = sorted({flag for side in (a, b) for flag in _flags(side)})
        change_map.finish(_figures(a, b, grid, counts) | {"alignment": job.alignment}, flags)
        promote(staged, final)
    except BaseException as error:
        with suppress(OSError):
            remove(staged)
        if isinstance(error, OSError):
            raise StoreError(f"{staged.path} cannot be written: {error}") from error
        raise


def _count(counter: PairCounter, a: Any, b: Any, job: DiffJob) -> Any:
    try:
        return counter.add(a, b)
    except ValueError as error:
        raise StoreError(f"{job.a} and {job.b} cannot be compared: {error}") from error


def _flags(side: DiffSide) -> list[str]:
    flags: list[str] = side.summary.get("qc_flags", side.summary.get("flags", []))
    return flags


def _figures(a: DiffSide, b: DiffSide, grid: CommonGrid, counts: PairCounts) -> dict[str, Any]:
    """Figures of a comparison, under the names of the columns of the table."""
    frame = grid.grid.store.layout.frame
    mm2 = frame.pixel_area_mm2
    both, in_a, in_b = counts.tumor
    outside_mm2 = grid.outside_px() * grid.other.store.layout.frame.pixel_area_mm2
    return {
        **_areas("tissue_", _area(a, "tissue_area_mm2"), _area(b, "tissue_area_mm2")),
        **_areas("tumor_", _area(a, "tumor_area_mm2"), _area(b, "tumor_area_mm2")),
        "tumor_dice": _rounded(counts.tumor_dice),
        "tumor_in_both_mm2": round(both * mm2, 6),
        "tumor_only_in_a_mm2": round((in_a - both) * mm2, 6),
        "tumor_only_in_b_mm2": round((in_b - both) * mm2, 6),
        "tumor_agreement": _rounded(counts.tumor_agreement),
        "class_agreement": _rounded(counts.class_agreement),
        "analysed_in_both_mm2": round(counts.analysed_in_both * mm2, 6),
        "analysed_only_in_a_mm2": round(counts.analysed_only_in_a * mm2, 6),
        "analysed_only_in_b_mm2": round(counts.analysed_only_in_b * mm2, 6),
        "analysed_only_in_a_px": counts.analysed_only_in_a,
        "analysed_only_in_b_px": counts.analysed_only_in_b,
        "outside_grid_mm2": round(outside_mm2, 6),
        "grid": "a" if grid.a_is_grid else "b",
        "grid_mpp_y": frame.mpp_y,
        "grid_mpp_x": frame.mpp_x,
        "note": _note(a, b),
        "classes": {name: _class_figures(a, b, counts, name) for name in counts.common},
    }


def _area(side: DiffSide, name: str, of: Mapping[str, Any] | None = None) -> float:
    """Area in the summary of a side (mm2).

    Args:
        side: the side.
        name: name of the area.
        of: areas of the classes, by name; None for an area of the slide.

    Raises:
        StoreError: if it is missing or cannot be true.
    """
    value = (side.summary if of is None else of).get(name)
    if isinstance(value, int | float) and 0 <= value < inf:
        return float(value)
    raise StoreError(
        f"{side.folder.summary} is damaged: its {name} is {value!r:.80}; run its slide again"
    )


def _class_figures(a: DiffSide, b: DiffSide, counts: PairCounts, name: str) -> dict[str, Any]:
    areas = (_area(side, name, side.result.area_mm2) for side in (a, b))
    return _areas("", *areas) | {"dice": _rounded(counts.class_dice(name))}


def _areas(begin: str, a: float, b: float) -> dict[str, float | None]:
    """Area on both sides (mm2), and the difference b - a (mm2, and relative to a).

    Args:
        begin: begin of the names.
        a: area on the first side (mm2).
        b: area on the second side (mm2).
    """
    return {
        f"{begin}area_a_mm2": a,
        f"{begin}area_b_mm2": b,
        f"{begin}area_difference_mm2": round(b - a, 6),
        f"{begin}area_relative_difference": _rounded(relative_difference(a, b)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _note(a: DiffSide, b: DiffSide) -> str:
    """Reason to doubt that both results show the same slide; "" if there is none."""
    frames = (side.store.layout.frame for side in (a, b))
    sizes = [(f.extent.height * f.mpp_y, f.extent.width * f.mpp_x) for f in frames]
    stretch = max(abs(one / other - 1) for one, other in zip(*sizes, strict=True))
    if stretch <= _MOST_STRETCH:
        return ""
    shown = (f"{y / 1000:.1f} x {x / 1000:.1f} mm" for y, x in sizes)
    return f"scanned regions differ ({', '.join(shown)}): check that both are the same slide"


def standing_figures(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Figures of a comparison that stands, from the summary of its change map.

    Raises:
        StoreError: if the summary holds none.
    """
    figures = summary.get("diff")
    if not isinstance(figures, Mapping):
        raise StoreError("a summary of the comparison is damaged; compare into another --out")
    return figures
