"""Figures of a slide's label map: areas, tumor foci, mean confidence.

Each block counts its labels; the figures of a slide are sums of these counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from noctile.pipeline.arrays import UInt8, UInt16
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import Block, TilePlan, heat_slice
from noctile.pipeline.quality import CoreCount

FOCI_MPP = 4.0
"""Pixel size at which tumor foci are counted (um); the nearest pyramid level is used.

A few such pixels cover a cell, and a level of this size is small on any slide.
"""

MIN_FOCUS_MM2 = 0.01
"""Area of the smallest tumor focus (mm2): a disc of 0.11 mm, below which single glands break up."""


@dataclass(frozen=True, slots=True)
class TileRow:
    """Position and content of the core of one tile: a row of ``tiles.parquet``.

    Attributes:
        row: row of the tile in the grid.
        col: column of the tile in the grid.
        y_um: distance from the slide's top to the core's top (um).
        x_um: distance from the slide's left side to the core's left side (um).
        height_um: height of the core, cut to the slide (um).
        width_um: width of the core, cut to the slide (um).
        tissue_fraction: share of the core's pixels that are tissue, 0..1.
        class_fractions: share of the core's tissue pixels in each class of the card, in the card's
            order, 0..1.
        mean_confidence: mean probability of the predicted class over the core's tissue, 0..1; None
            if the confidence map belongs to other classes (regrouped results).
    """

    row: int
    col: int
    y_um: float
    x_um: float
    height_um: float
    width_um: float
    tissue_fraction: float
    class_fractions: tuple[float, ...]
    mean_confidence: float | None


@dataclass(frozen=True, slots=True)
class SlideSummary:
    """Figures of one slide.

    Attributes:
        tissue_area_mm2: area of all analysed pixels, which are the readable tissue (mm2).
        tumor_area_mm2: area of all classes with the role ``tumor`` (mm2).
        tumor_fraction_of_tissue: tumor area / tissue area, 0..1; None without tissue.
        class_area_mm2: area of each class (mm2), by name, in the card's order.
        tumor_foci: number of connected tumor regions (8 neighbours) of at least `MIN_FOCUS_MM2`,
            counted at about `FOCI_MPP`.
        largest_focus_mm2: area of the largest tumor focus (mm2); 0 without a focus.
        mean_confidence: mean probability of the predicted class over the tissue, 0..1; None
            without tissue, and if the confidence map belongs to other classes.
        tiles: number of tiles of the plan, unreadable ones included.
    """

    tissue_area_mm2: float
    tumor_area_mm2: float
    tumor_fraction_of_tissue: float | None
    class_area_mm2: dict[str, float]
    tumor_foci: int
    largest_focus_mm2: float
    mean_confidence: float | None
    tiles: int


@dataclass(frozen=True, slots=True)
class Focus:
    """One tumor focus.

    Attributes:
        box: smallest box that holds it, in pixels of the level at which it was found.
        area_mm2: its area (mm2).
    """

    box: Box
    area_mm2: float


def count_cores(
    plan: TilePlan,
    block: Block,
    codes: Sequence[int],
    labels: UInt8,
    analysed: UInt8,
    confidence: UInt8 | None,
) -> Iterator[CoreCount]:
    """Count the labels in each core of a block that may have tissue.

    Args:
        plan: plan of the slide.
        block: one of ``plan.blocks``.
        codes: codes of the model's classes, in the card's order.
        labels: uint8 ``[h, w]``, label map of the block.
        analysed: uint8 ``[ceil(h / 8), ceil(w / 8)]``, number of labels above 0 under each pixel of
            the heat maps.
        confidence: uint8 ``[ceil(h / 8), ceil(w / 8)]``, confidence map of the block; None if it
            belongs to other classes than the labels.
    """
    cores_per_side = plan.block_px // plan.grid.stride_px
    weighted = None if confidence is None else analysed * confidence.astype(np.uint16)
    for row, col in block.tiles:
        if (row // cores_per_side, col // cores_per_side) != block.key:
            continue  # with the window blend: a tile of the next block that reaches into this one
        ys, xs = plan.grid.core(row, col).intersect(plan.frame.box).slices(block.box)
        # numpy.bincount takes longer: benchmarks/history/writing.md.
        pixels = Image.fromarray(labels[ys, xs]).histogram()
        counts = tuple(pixels[code] for code in codes)
        total = None if weighted is None else _sum(weighted[heat_slice(ys), heat_slice(xs)])
        yield CoreCount(row, col, counts, total)


def _sum(values: UInt8 | UInt16) -> int:
    return int(values.sum(dtype=np.int64))


def measure(
    store: MaskStore, plan: TilePlan, classes: tuple[ClassInfo, ...], cores: Iterable[CoreCount]
) -> tuple[SlideSummary, list[TileRow]]:
    """Measure a slide whose pyramid is complete.

    An area is pixels x mpp_y x mpp_x at the level that the model saw.

    Args:
        store: masks of the slide.
        plan: plan of the slide.
        classes: classes of the model.
        cores: counts of the cores of all blocks, in any order.

    Returns:
        the figures of the slide, and a row for each tile with tissue, sorted by position.

    Raises:
        StoreError: if the masks cannot be read.
    """
    with_tissue = sorted(
        (core for core in cores if any(core.pixels)), key=lambda core: (core.row, core.col)
    )
    pixels = class_pixels(classes, with_tissue)
    mm2 = plan.frame.pixel_area_mm2
    tissue_px = sum(pixels)
    tissue_mm2 = tissue_px * mm2
    tumor = [c.role == "tumor" for c in classes]
    tumor_mm2 = sum(compress(pixels, tumor)) * mm2
    n_foci, largest_mm2 = tumor_foci(store, [c.code for c in compress(classes, tumor)])
    summary = SlideSummary(
        tissue_area_mm2=round(tissue_mm2, 6),
        tumor_area_mm2=round(tumor_mm2, 6),
        tumor_fraction_of_tissue=round(tumor_mm2 / tissue_mm2, 6) if tissue_px else None,
        class_area_mm2=class_areas_mm2(plan.frame, classes, pixels),
        tumor_foci=n_foci,
        largest_focus_mm2=round(largest_mm2, 6),
        mean_confidence=mean_confidence(with_tissue),
        tiles=len(plan.tiles),
    )
    return summary, [_tile_row(plan, core) for core in with_tissue]


def class_pixels(classes: Sequence[ClassInfo], cores: Iterable[CoreCount]) -> list[int]:
    """Sum the pixels of each class, in the order of the classes, over the cores of a slide."""
    counts = [core.pixels for core in cores]
    return [sum(pixels[k] for pixels in counts) for k in range(len(classes))]


def class_areas_mm2(
    frame: Frame, classes: Sequence[ClassInfo], pixels: Sequence[int]
) -> dict[str, float]:
    """Area of each class (mm2), by its name.

    Args:
        frame: frame of the label map.
        classes: classes of the model.
        pixels: number of pixels of each class, in the same order.
    """
    mm2 = frame.pixel_area_mm2
    return {c.name: round(n * mm2, 6) for c, n in zip(classes, pixels, strict=True)}


def mean_confidence(cores: Iterable[CoreCount]) -> float | None:
    """Mean probability of the predicted class over the tissue, 0..1.

    Returns:
        None without tissue, and if the confidence of a core is not known.
    """
    tissue_px, confidence = 0, 0
    for core in cores:
        if core.confidence is None:
            return None
        tissue_px, confidence = tissue_px + sum(core.pixels), confidence + core.confidence
    return round(confidence / tissue_px / 255, 4) if tissue_px else None


def _tile_row(plan: TilePlan, core: CoreCount) -> TileRow:
    box = plan.grid.core(core.row, core.col).intersect(plan.frame.box)
    mpp_y, mpp_x = plan.frame.mpp_y, plan.frame.mpp_x
    tissue_px = sum(core.pixels)
    return TileRow(
        core.row,
        core.col,
        y_um=round(box.y * mpp_y, 3),
        x_um=round(box.x * mpp_x, 3),
        height_um=round(box.height * mpp_y, 3),
        width_um=round(box.width * mpp_x, 3),
        tissue_fraction=round(tissue_px / box.area, 6),
        class_fractions=tuple(round(n / tissue_px, 6) for n in core.pixels),
        mean_confidence=mean_confidence([core]),
    )


def tumor_foci(store: MaskStore, tumor_codes: list[int]) -> tuple[int, float]:
    """Count the connected tumor regions, and return the area of the largest too (mm2).

    Args:
        store: masks of the slide, with all levels.
        tumor_codes: codes of the classes with the role ``tumor``.

    Raises:
        StoreError: if the masks cannot be read.
    """
    _, _, areas_mm2 = _tumor_regions(store, tumor_codes)
    foci_mm2 = areas_mm2[areas_mm2 >= MIN_FOCUS_MM2]
    return len(foci_mm2), float(foci_mm2.max(initial=0.0))


def find_foci(store: MaskStore, tumor_codes: list[int], most: int) -> tuple[Frame, list[Focus]]:
    """Find the tumor foci that `tumor_foci` counts, the largest first.

    Args:
        store: masks of the slide, with all levels.
        tumor_codes: codes of the classes with the role ``tumor``.
        most: largest number of foci.

    Returns:
        the frame in which they were found, and the foci.

    Raises:
        StoreError: if the masks cannot be read.
    """
    frame, regions, areas_mm2 = _tumor_regions(store, tumor_codes)
    largest = np.argsort(-areas_mm2, kind="stable")[:most]
    boxes = ndimage.find_objects(regions) if len(largest) else []
    foci = []
    for k in largest[areas_mm2[largest] >= MIN_FOCUS_MM2].tolist():
        ys, xs = boxes[k]
        box = Box(ys.start, xs.start, ys.stop - ys.start, xs.stop - xs.start)
        foci.append(Focus(box, float(areas_mm2[k])))
    return frame, foci


def _tumor_regions(
    store: MaskStore, tumor_codes: list[int]
) -> tuple[Frame, npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Label the connected tumor regions at about `FOCI_MPP`.

    Returns:
        the frame of the pyramid level; int32 ``[h, w]``, number of the region of each pixel, 0
        outside of tumor; float64 ``[n]``, area of the regions 1 to n (mm2).
    """
    frames = store.layout.level_frames
    level = min(range(len(frames)), key=lambda k: abs(np.log(frames[k].mpp / FOCI_MPP)))
    tumor = np.isin(store.read_level(level), tumor_codes)
    regions = np.zeros(tumor.shape, np.int32)
    ndimage.label(tumor, structure=np.ones((3, 3)), output=regions)
    areas_mm2 = (np.bincount(regions[tumor])[1:] * frames[level].pixel_area_mm2).astype(np.float64)
    return frames[level], regions, areas_mm2
