"""Change map of two results of a slide, written as an ordinary result."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from noctile.pipeline.arrays import Bool, Int64, UInt8
from noctile.pipeline.diff import CHANGE_CLASSES, CHANGED
from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import count_cores, measure, tumor_foci
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles
from noctile.pipeline.preview import preview_of
from noctile.pipeline.quality import BlockStats, SlideQuality
from noctile.pipeline.stitch.block import pool_sums
from noctile.pipeline.tissue import TissueMask
from noctile.workflows.commands.diff_pixels import DiffSide
from noctile.workflows.jobs.finish import tile_table, write_preview
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.durable import sync_tree
from noctile.workflows.results.files import read_required_json, write_atomic, write_json
from noctile.workflows.results.layout import SlideFolder

MODEL = "diff"
"""Name that stands in place of a model in the tables of change maps."""

_CODES = [info.code for info in CHANGE_CLASSES]

_TUMOR_SHARE: UInt8 = np.array([0, 255, 128, 128, 0], np.uint8)
"""Share of the two sides that have tumor, x 255, for each code of a change map."""

_SAME: UInt8 = np.array([0, 255, 0, 0, 255], np.uint8)
"""255 for each code of a change map on whose pixels the sides agree about tumor."""


class ChangeMap:
    """Writer of a change map, in a staging folder that is empty.

    Args:
        staged: the staging folder; its name is the id of the slide.
        grid: side whose slide, frame, blocks and thumbnail the change map has.
        key: content key of the two results.
        about: plain values that describe both sides, for the attributes of the mask.

    Raises:
        StoreError: if a file cannot be read or written, or is damaged.
    """

    def __init__(
        self, staged: SlideFolder, grid: DiffSide, key: str, about: Mapping[str, Any]
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
            {"slide": self._slide, "model": {"name": MODEL}, "versions": versions(), **about},
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
        analysed = pool_sums(np, (change > 0).view(np.uint8))
        cells = np.maximum(analysed, 1)
        maps = (pool_sums(np, values[change]) / cells for values in (_TUMOR_SHARE, _SAME))
        heat, confidence = (np.floor(cell + 0.5).astype(np.uint8) for cell in maps)
        self._store.write(box, change, heat, confidence)
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
        coarse = build_pyramid(self._store)
        del coarse  # everything is synced below
        stats = self._count(plan)
        cores = (core for block in stats.values() for core in block.cores)
        summary, tiles = measure(self._store, plan, CHANGE_CLASSES, cores)
        regions, largest_mm2 = tumor_foci(self._store, list(CHANGED))
        changed = {"changed_regions": regions, "largest_changed_mm2": round(largest_mm2, 6)}
        table = tile_table(tiles, [info.name for info in CHANGE_CLASSES])
        write_atomic(self._folder.tiles, partial(pq.write_table, table, compression="zstd"))
        title = f"{self._folder.path.name}: change"
        write_preview(self._folder, preview_of(self._store, title, summary.class_area_mm2))
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

    def _count(self, plan: TilePlan) -> dict[str, BlockStats]:
        """Count the labels of each block, and write the counts to ``blocks.json``."""
        stats = {}
        for block in plan.blocks:
            labels = self._store.read(block.box)
            analysed = pool_sums(np, (labels > 0).view(np.uint8)).astype(np.uint8)
            confidence = self._store.read_heat_maps(block.box)[1]
            cores = count_cores(plan, block, _CODES, labels, analysed, confidence)
            n = int(np.count_nonzero(labels))
            stats[f"{block.row}.{block.col}"] = BlockStats(n, 0, 0, cores=tuple(cores))
        values = {name: block.to_json() for name, block in stats.items()}
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
