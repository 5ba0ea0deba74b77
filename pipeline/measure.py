"""A label map in figures: areas, foci, confidence; computed from what stands on disk, so that it can be checked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.blend import pool_sums
from pipeline.geometry import Box, Frame
from pipeline.masks.store import MaskStore
from pipeline.models.card import ClassInfo
from pipeline.plan import HEAT_FACTOR, Block, TilePlan

UInt8 = npt.NDArray[np.uint8]

FOCUS_MPP = 4.0
"""Tumor foci are counted on the pyramid level closest to this pixel size (um): a few cells wide, cheap on any slide."""

MIN_FOCUS_MM2 = 0.01
"""Connected tumor smaller than this is not a focus (mm2): a disc of 0.11 mm, below which single glands fall apart."""


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
        class_fractions: share of the core's tissue pixels in each class of the card, in the card's order, 0..1.
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
        tissue_area_mm2: of all pixels that were analysed, i.e. tissue (mm2).
        tumor_area_mm2: of all classes with the role ``tumor`` (mm2).
        tumor_fraction_of_tissue: tumor / tissue, 0..1; None without tissue.
        class_area_mm2: of each class (mm2), by name, in the card's order.
        tumor_foci: connected tumor regions (8 neighbours) of at least `MIN_FOCUS_MM2`, at about `FOCUS_MPP`.
        largest_focus_mm2: area of the largest of them (mm2), 0 without any.
        mean_confidence: mean probability of the winning class over tissue, 0..1; None without tissue.
        tiles: tiles that were predicted.
    """

    tissue_area_mm2: float
    tumor_area_mm2: float
    tumor_fraction_of_tissue: float | None
    class_area_mm2: dict[str, float]
    tumor_foci: int
    largest_focus_mm2: float
    mean_confidence: float | None
    tiles: int


class Tally:
    """Counts a finished label map block by block, in any order and from several threads.

    Args:
        store: of the slide.
        plan: likewise.
        classes: of the model.
    """

    def __init__(self, store: MaskStore, plan: TilePlan, classes: tuple[ClassInfo, ...]) -> None:
        self._store, self._plan, self._classes = store, plan, classes
        self._cores: list[_Core] = []

    def __call__(self, block: tuple[int, int], labels: UInt8) -> None:
        """Count the labels of one block, uint8 ``[h, w]``, as they stand in level 0.

        Raises:
            StoreError: if the maps cannot be read back.
        """
        self._cores.extend(_cores(self._store, self._plan, self._plan.block(block), labels))

    def summary(self) -> tuple[SlideSummary, list[TileRow]]:
        """The figures, once every block has been counted and the pyramid stands.

        Areas are pixels x mpp_y x mpp_x at the level where the model looked.

        Raises:
            StoreError: if the masks cannot be read back.
        """
        plan, classes = self._plan, self._classes
        pixels: npt.NDArray[np.int64] = np.zeros(256, np.int64)
        confidence = 0
        tiles: list[TileRow] = []
        for core in sorted(self._cores, key=lambda c: (c.row, c.col)):
            pixels += core.pixels
            confidence += core.confidence
            tissue = int(core.pixels[1:].sum())
            if tissue:
                tiles.append(
                    TileRow(
                        core.row,
                        core.col,
                        *_um(core.box, plan.frame),
                        round(tissue / core.box.area, 6),
                        tuple(round(float(core.pixels[c.code]) / tissue, 6) for c in classes),
                        round(core.confidence / tissue / 255, 4),
                    )
                )
        mm2 = plan.frame.pixel_area_mm2
        tissue_px = int(pixels[1:].sum())
        tissue_mm2 = tissue_px * mm2
        tumor_mm2 = float(sum(pixels[c.code] for c in classes if c.role == "tumor")) * mm2
        n_foci, largest = tumor_foci(self._store, [c.code for c in classes if c.role == "tumor"])
        return SlideSummary(
            tissue_area_mm2=round(tissue_mm2, 6),
            tumor_area_mm2=round(tumor_mm2, 6),
            tumor_fraction_of_tissue=round(tumor_mm2 / tissue_mm2, 6) if tissue_px else None,
            class_area_mm2={c.name: round(float(pixels[c.code]) * mm2, 6) for c in classes},
            tumor_foci=n_foci,
            largest_focus_mm2=round(largest, 6),
            mean_confidence=round(confidence / tissue_px / 255, 4) if tissue_px else None,
            tiles=len(plan.tiles),
        ), tiles


@dataclass(frozen=True, slots=True, eq=False)
class _Core:
    """A tile's core, cut to the frame.

    Attributes:
        row: of the tile in the grid.
        col: likewise.
        box: the core.
        pixels: of each label, int64 ``[256]``.
        confidence: sum over its tissue pixels, x 255.
    """

    row: int
    col: int
    box: Box
    pixels: npt.NDArray[np.int64]
    confidence: int


def tumor_foci(store: MaskStore, tumor_codes: list[int]) -> tuple[int, float]:
    """How many connected tumor regions there are, and the area of the largest (mm2)."""
    frames = store.layout.level_frames
    level = min(range(len(frames)), key=lambda k: abs(np.log(frames[k].mpp / FOCUS_MPP)))
    tumor = np.isin(store.read_level(level), tumor_codes)
    regions, _ = ndimage.label(tumor, structure=np.ones((3, 3)))
    areas = np.bincount(regions.ravel())[1:] * frames[level].pixel_area_mm2
    areas = areas[areas >= MIN_FOCUS_MM2]
    return len(areas), float(areas.max(initial=0.0))


def _cores(store: MaskStore, plan: TilePlan, block: Block, labels: UInt8) -> Iterator[_Core]:
    """The cores in a block that may have tissue."""
    n = plan.block_px // plan.grid.stride_px
    _, confidence = store.read_maps(block.box)
    analysed = pool_sums(np, (labels > 0).view(np.uint8)).astype(np.int64)
    for row, col in block.tiles:
        if (row // n, col // n) != block.key:
            continue  # with blend, a neighbour's tile that reaches in
        box = plan.grid.core(row, col).intersect(plan.frame.box)
        ys, xs = box.slices(block.box)
        cells = (_cells(ys), _cells(xs))
        weighted = int((analysed[cells] * confidence[cells].astype(np.int64)).sum())
        yield _Core(row, col, box, np.bincount(labels[ys, xs].ravel(), minlength=256), weighted)


def _cells(pixels: slice) -> slice:
    """The heat-map cells under a run of pixels that starts on a cell's edge."""
    return slice(pixels.start // HEAT_FACTOR, -(-pixels.stop // HEAT_FACTOR))


def _um(box: Box, frame: Frame) -> tuple[float, float, float, float]:
    """y, x, height, width of a box (um), rounded to a thousandth."""
    y, x, height, width = box.y * frame.mpp_y, box.x * frame.mpp_x, box.height * frame.mpp_y, box.width * frame.mpp_x
    return round(y, 3), round(x, 3), round(height, 3), round(width, 3)
