"""Change map of two results of a slide, written as an ordinary result.

A change map has no probabilities: its heat maps are 0, and its mean confidence is empty.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from math import ceil
from typing import Any

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import Bool, Int64, UInt8
from noctile.pipeline.diff import CHANGE_CLASSES, CHANGED
from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import count_cores
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles
from noctile.pipeline.quality import BlockStats, SlideQuality
from noctile.pipeline.regroup import NO_MAPS
from noctile.pipeline.spatial.foci import focus_areas_mm2
from noctile.pipeline.tissue_mask import TissueMask
from noctile.workflows.commands.diff_pixels import DiffSide
from noctile.workflows.jobs.finish import measure_blocks
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.durable import sync_tree
from noctile.workflows.results.files import read_required_json, write_atomic, write_json
from noctile.workflows.results.layout import SlideFolder

MODEL = "diff"
"""Name that stands in place of a model in the tables of change maps."""

_CODES = [info.code for info in CHANGE_CLASSES]


class ChangeMap:
    """Writer of a change map, in a staging folder that is empty.

    Args:
        staged: the staging folder; its name is the id of the slide.
        grid: side whose slide, frame, blocks and thumbnail the change map has.
        key: content key of the two results.
        origin: plain values that tell both results, for the attributes of the mask.

    Raises:
        StoreError: if a file cannot be read or written, or is damaged.
    """

    def __init__(
        self, staged: SlideFolder, grid: DiffSide, key: str, origin: Mapping[str, Any]
    ) -> None:
        self._folder, self._key = staged, key
        described = read_required_json(grid.folder.plan)
        try:
            self._slide = {**described["slide"], "slide_id": staged.path.name}
            self._native = Frame(Extent(*self._slide["extent_px"]), *self._slide["mpp"])
            self._tiling = _tiling(TilePlan.from_json(described["plan"]))
            mpp = described["tissue"]["frame"]
            self._tissue_frame = _covering(grid.store.layout.frame, mpp["mpp_y"], mpp["mpp_x"])
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError(
                f"{grid.folder.plan} is damaged: {error!s:.200}; run its slide again"
            ) from error
        extent, layout = self._tissue_frame.extent, grid.store.layout
        self._tissue: Bool = np.zeros((extent.height, extent.width), np.bool_)
        self._layout = MaskLayout(layout.frame, layout.block_px, layout.chunk_px, CHANGE_CLASSES)
        staged.path.mkdir(parents=True, exist_ok=True)
        self._store = MaskStore.create(
            staged.mask,
            self._layout,
            grid.store.read_thumbnail(),
            grid.store.thumbnail_frame,
            {
                "slide": self._slide,
                "model": {"name": MODEL},
                "versions": versions(),
                "diff": {**origin, **NO_MAPS},
            },
        )

    def add(self, box: Box, change: UInt8) -> None:
        """Write one block of the grid.

        Args:
            box: the block.
            change: uint8 ``[h, w]``, codes of `CHANGE_CLASSES`, or 0.

        Raises:
            StoreError: if the file system refuses.
        """
        if not change.any():
            return
        cells = self._layout.heat_box(box)
        unknown = np.zeros((cells.height, cells.width), np.uint8)
        self._store.write(box, change, unknown, unknown)
        ys, xs = (
            _groups(start, stop, own / mask)
            for start, stop, own, mask in (
                (box.y, box.y_stop, self._layout.frame.mpp_y, self._tissue_frame.mpp_y),
                (box.x, box.x_stop, self._layout.frame.mpp_x, self._tissue_frame.mpp_x),
            )
        )
        rows = np.bitwise_or.reduceat(change, ys[1], axis=0)
        found = np.bitwise_or.reduceat(rows, xs[1], axis=1) > 0
        self._tissue[np.ix_(ys[0], xs[0])] |= found

    def finish(self, figures: Mapping[str, Any], qc_flags: list[str]) -> None:
        """Write the files of an ordinary result; ``summary.json`` comes last.

        Args:
            figures: figures of the comparison, which the summary holds as ``diff``.
            qc_flags: quality flags of both sides.

        Raises:
            StoreError: if a file cannot be read or written, or the plan of the slide is damaged.
        """
        rule = "pixels that one of both results has analysed"
        tissue = TissueMask(self._tissue, self._tissue_frame, rule, ())
        plan = plan_tiles(self._folder.path.name, self._native, tissue, self._tiling)
        if (plan.frame, plan.block_px) != (self._layout.frame, self._layout.block_px):
            raise StoreError(
                f"the plan of {self._slide['slide_id']} does not fit its mask: {plan.frame}; run "
                "the slide again"
            )
        self._write_plan(plan, tissue)
        stats = self._count(plan)
        summary = measure_blocks(self._folder, plan, stats, threads=1)
        regions_mm2 = focus_areas_mm2(self._store, list(CHANGED))
        largest_mm2 = round(float(regions_mm2.max(initial=0.0)), 6)
        changed = {"changed_regions": len(regions_mm2), "largest_changed_mm2": largest_mm2}
        try:
            sync_tree(self._folder.path)
        except OSError as error:
            raise StoreError(f"{self._folder.path} cannot be written: {error}") from error
        values = {
            "key": self._key,
            **self._slide,
            **asdict(summary),
            **asdict(SlideQuality.from_blocks(stats.values())),
            "label_map_mpp": [plan.frame.mpp_y, plan.frame.mpp_x],
            "tissue_rule": rule,
            "qc_flags": qc_flags,
            "model": MODEL,
            "versions": versions(),
            "diff": {**figures, **changed},
        }
        write_with_checksums(self._folder, values)

    def _count(self, plan: TilePlan) -> dict[tuple[int, int], BlockStats]:
        """Count the labels of each block, and write the counts to ``blocks.json``."""
        stats = {}
        for block in plan.blocks:
            labels = self._store.read(block.box)
            cells = self._layout.heat_box(block.box)
            no_weight = np.zeros((cells.height, cells.width), np.uint8)
            cores = count_cores(plan, block, _CODES, labels, no_weight, confidence=None)
            n = int(np.count_nonzero(labels))
            stats[block.key] = BlockStats(n, 0, 0, cores=tuple(cores))
        values = {f"{row}.{col}": block.to_json() for (row, col), block in stats.items()}
        write_json(self._folder.block_stats_file, values, compact=True)
        return stats

    def _write_plan(self, plan: TilePlan, tissue: TissueMask) -> None:
        picture = Image.fromarray(tissue.mask).convert("L")
        write_atomic(self._folder.tissue, partial(picture.save, optimize=False))
        about = {"frame": asdict(tissue.frame), "rule": tissue.rule, "flags": []}
        described = {
            "key": self._key,
            "slide": self._slide,
            "tissue": {**about, "area_mm2": round(tissue.area_mm2, 6)},
            "stain": None,
            "plan": plan.to_json(),
            "files": {},
        }
        write_json(self._folder.plan, described)


def _tiling(plan: TilePlan) -> Tiling:
    """Settings of tiles and blocks that a plan was made with."""
    about = plan.grid.tile_px, plan.grid.overlap_px, plan.window, plan.block_px
    return Tiling(plan.mpp, *about, len(CHANGE_CLASSES))


def _covering(frame: Frame, mpp_y: float, mpp_x: float) -> Frame:
    """Frame with pixels of another size that covers all of a frame."""
    height = ceil(frame.extent.height * frame.mpp_y / mpp_y)
    width = ceil(frame.extent.width * frame.mpp_x / mpp_x)
    return Frame(Extent(height, width), mpp_y, mpp_x)


def _groups(start: int, stop: int, ratio: float) -> tuple[Int64, Int64]:
    """Pixels of a coarser frame under a run of pixels, and the first pixel over each of them.

    Args:
        start: first pixel.
        stop: pixel after the last.
        ratio: pixel size divided by that of the coarser frame.

    Returns:
        the pixels of the coarser frame, and for each the position of its first pixel in the run.
    """
    under = np.floor((np.arange(start, stop) + 0.5) * ratio).astype(np.int64)
    return np.unique(under, return_index=True)
