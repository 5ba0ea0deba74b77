"""Figures of a slide's label map: areas, tumor foci, mean confidence, spatial measures.

Each block counts its labels; the figures of a slide are sums of these counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import UInt8, UInt16
from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import Block, TilePlan, heat_slice
from noctile.pipeline.quality import CoreCount
from noctile.pipeline.spatial.classes import codes_of
from noctile.pipeline.spatial.compute import measure_space
from noctile.pipeline.spatial.foci import focus_areas_mm2
from noctile.pipeline.spatial.measures import SpatialMeasures


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
            counted at about `FOCI_MPP` (`noctile.pipeline.spatial.foci`).
        largest_focus_mm2: area of the largest tumor focus (mm2); 0 without a focus.
        mean_confidence: mean probability of the predicted class over the tissue, 0..1; None
            without tissue, and if the confidence map belongs to other classes.
        tiles: number of tiles of the plan, unreadable ones included.
        measures: spatial measures.
    """

    tissue_area_mm2: float
    tumor_area_mm2: float
    tumor_fraction_of_tissue: float | None
    class_area_mm2: dict[str, float]
    tumor_foci: int
    largest_focus_mm2: float
    mean_confidence: float | None
    tiles: int
    measures: SpatialMeasures


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
    store: MaskStore,
    plan: TilePlan,
    classes: tuple[ClassInfo, ...],
    cores: Iterable[CoreCount],
    threads: int = 1,
) -> tuple[SlideSummary, list[TileRow]]:
    """Measure a slide whose pyramid is complete.

    An area is pixels x mpp_y x mpp_x at the level that the model saw.

    Args:
        store: masks of the slide.
        plan: plan of the slide.
        classes: classes of the model.
        cores: counts of the cores of all blocks, in any order.
        threads: number of blocks that are read at the same time.

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
    areas_mm2 = class_areas_mm2(plan.frame, classes, pixels)
    foci_mm2 = focus_areas_mm2(store, codes_of([*compress(classes, tumor)]))
    summary = SlideSummary(
        tissue_area_mm2=round(tissue_mm2, 6),
        tumor_area_mm2=round(tumor_mm2, 6),
        tumor_fraction_of_tissue=round(tumor_mm2 / tissue_mm2, 6) if tissue_px else None,
        class_area_mm2=areas_mm2,
        tumor_foci=len(foci_mm2),
        largest_focus_mm2=round(float(foci_mm2.max(initial=0.0)), 6),
        mean_confidence=mean_confidence(with_tissue),
        tiles=len(plan.tiles),
        measures=measure_space(store, areas_mm2, foci_mm2, threads),
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
