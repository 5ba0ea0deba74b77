"""A label map in figures: areas, foci, confidence. Blocks count their labels; the figures are sums
of counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import Block, TilePlan, heat_slice
from noctile.pipeline.quality import CoreCount

UInt8 = npt.NDArray[np.uint8]

FOCUS_MPP = 4.0
"""Tumor foci are counted on the pyramid level closest to this pixel size (um): a few cells wide,
cheap on any slide."""

MIN_FOCUS_MM2 = 0.01
"""Connected tumor smaller than this is not a focus (mm2): a disc of 0.11 mm, below which single
glands fall apart."""


@dataclass(frozen=True, slots=True)
class TileRow:
    """One tile's core: where it lies and what was found in it; a row of ``tiles.parquet``.

    Attributes:
        row: of the tile in the grid.
        col: of the tile in the grid.
        y_um: its core's top edge, from the slide's top (um).
        x_um: its core's left edge, from the slide's left (um).
        height_um: of its core, cut to the slide (um).
        width_um: likewise.
        tissue_fraction: share of the core's pixels that are tissue, 0..1.
        class_fractions: share of the core's tissue pixels in each class of the card, in the card's
            order, 0..1.
        mean_confidence: mean probability of the winning class over the core's tissue, 0..1.
    """

    row: int
    col: int
    y_um: float
    x_um: float
    height_um: float
    width_um: float
    tissue_fraction: float
    class_fractions: tuple[float, ...]
    mean_confidence: float


@dataclass(frozen=True, slots=True)
class SlideSummary:
    """A slide in figures.

    Attributes:
        tissue_area_mm2: of all pixels that were analysed, i.e. tissue that could be read (mm2).
        tumor_area_mm2: of all classes with the role ``tumor`` (mm2).
        tumor_fraction_of_tissue: tumor / tissue, 0..1; None without tissue.
        class_area_mm2: of each class (mm2), by name, in the card's order.
        tumor_foci: connected tumor regions (8 neighbours) of at least `MIN_FOCUS_MM2`, at about
            `FOCUS_MPP`.
        largest_focus_mm2: area of the largest of them (mm2), 0 without any.
        mean_confidence: mean probability of the winning class over tissue, 0..1; None without
            tissue.
        tiles: tiles of the plan, those that could not be read among them.
    """

    tissue_area_mm2: float
    tumor_area_mm2: float
    tumor_fraction_of_tissue: float | None
    class_area_mm2: dict[str, float]
    tumor_foci: int
    largest_focus_mm2: float
    mean_confidence: float | None
    tiles: int


def count_cores(
    plan: TilePlan,
    block: Block,
    codes: Sequence[int],
    labels: UInt8,
    analysed: UInt8,
    confidence: UInt8,
) -> Iterator[CoreCount]:
    """Count what stands in the cores of a block that may have tissue.

    Args:
        plan: of the slide.
        block: one of ``plan.blocks``.
        codes: of the model's classes, in the card's order.
        labels: uint8 ``[h, w]``, of the block.
        analysed: uint8 ``[ceil(h / 8), ceil(w / 8)]``, labels above 0 under each cell of the maps.
        confidence: likewise, the block's map.
    """
    n = plan.block_px // plan.grid.stride_px
    weighted = analysed * confidence.astype(np.uint16)
    for row, col in block.tiles:
        if (row // n, col // n) != block.key:
            continue  # with blend, a neighbour's tile that reaches in
        ys, xs = plan.grid.core(row, col).intersect(plan.frame.box).slices(block.box)
        pixels = Image.fromarray(
            labels[ys, xs]
        ).histogram()  # numpy's takes half as long again (RESULTS.md)
        sure = weighted[heat_slice(ys), heat_slice(xs)].sum(dtype=np.int64)
        yield CoreCount(row, col, tuple(pixels[code] for code in codes), int(sure))


def measure(
    store: MaskStore, plan: TilePlan, classes: tuple[ClassInfo, ...], cores: Iterable[CoreCount]
) -> tuple[SlideSummary, list[TileRow]]:
    """The figures of a slide whose pyramid stands.

    Areas are pixels x mpp_y x mpp_x at the level where the model looked.

    Args:
        store: of the slide.
        plan: likewise.
        classes: of the model.
        cores: of all blocks, in any order.

    Raises:
        StoreError: if the masks cannot be read back.
    """
    pixels = [0] * len(classes)
    confidence = 0
    tiles: list[TileRow] = []
    for core in sorted(cores, key=lambda c: (c.row, c.col)):
        tissue = sum(core.pixels)
        if tissue:
            box = plan.grid.core(core.row, core.col).intersect(plan.frame.box)
            pixels = [total + n for total, n in zip(pixels, core.pixels, strict=True)]
            confidence += core.confidence
            tiles.append(
                TileRow(
                    core.row,
                    core.col,
                    *_um(box, plan.frame),
                    round(tissue / box.area, 6),
                    tuple(round(n / tissue, 6) for n in core.pixels),
                    round(core.confidence / tissue / 255, 4),
                )
            )
    mm2 = plan.frame.pixel_area_mm2
    tissue_px = sum(pixels)
    tissue_mm2 = tissue_px * mm2
    tumor = [c.role == "tumor" for c in classes]
    tumor_mm2 = sum(compress(pixels, tumor)) * mm2
    n_foci, largest = tumor_foci(store, [c.code for c in compress(classes, tumor)])
    return SlideSummary(
        tissue_area_mm2=round(tissue_mm2, 6),
        tumor_area_mm2=round(tumor_mm2, 6),
        tumor_fraction_of_tissue=round(tumor_mm2 / tissue_mm2, 6) if tissue_px else None,
        class_area_mm2={c.name: round(n * mm2, 6) for c, n in zip(classes, pixels, strict=True)},
        tumor_foci=n_foci,
        largest_focus_mm2=round(largest, 6),
        mean_confidence=round(confidence / tissue_px / 255, 4) if tissue_px else None,
        tiles=len(plan.tiles),
    ), tiles


def tumor_foci(store: MaskStore, tumor_codes: list[int]) -> tuple[int, float]:
    """How many connected tumor regions there are, and the area of the largest (mm2)."""
    frames = store.layout.level_frames
    level = min(range(len(frames)), key=lambda k: abs(np.log(frames[k].mpp / FOCUS_MPP)))
    tumor = np.isin(store.read_level(level), tumor_codes)
    regions, _ = ndimage.label(tumor, structure=np.ones((3, 3)))
    areas = np.bincount(regions[tumor])[1:] * frames[level].pixel_area_mm2
    areas = areas[areas >= MIN_FOCUS_MM2]
    return len(areas), float(areas.max(initial=0.0))


def _um(box: Box, frame: Frame) -> tuple[float, float, float, float]:
    """y, x, height, width of a box (um), rounded to a thousandth."""
    y, x, height, width = (
        box.y * frame.mpp_y,
        box.x * frame.mpp_x,
        box.height * frame.mpp_y,
        box.width * frame.mpp_x,
    )
    return round(y, 3), round(x, 3), round(height, 3), round(width, 3)
