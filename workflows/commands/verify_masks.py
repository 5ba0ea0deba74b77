"""Second count of a slide's masks, compared with the figures that were written."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import count_cores, measure
from noctile.pipeline.plan import Block, TilePlan
from noctile.pipeline.quality import BlockStats, CoreCount
from noctile.pipeline.stitch.block import pool_sums
from noctile.pipeline.tissue_mask import TissueMask
from noctile.workflows.jobs.finish import tile_table


class MaskRecount:
    """Counts of labels, once over all of level 0, and once tile by tile as a run counts them.

    Args:
        store: masks of the slide.
        plan: tiles and blocks of the slide.
        tissue: tissue of the slide.
        confidence_is_known: False if the confidence map belongs to other classes, so that it is not
            counted.
    """

    def __init__(
        self,
        store: MaskStore,
        plan: TilePlan,
        tissue: TissueMask,
        *,
        confidence_is_known: bool = True,
    ) -> None:
        self._store, self._plan, self._tissue = store, plan, tissue
        self._confidence_is_known = confidence_is_known
        self._codes = [c.code for c in store.layout.classes]
        self._cores: list[CoreCount] = []
        self._pixels = np.zeros(256, np.int64)

    def faults(self, written: Mapping[str, BlockStats]) -> Iterator[str]:
        """Count every block, and yield each fault as a message without a subject ("has ...").

        One block is held in memory at a time.

        Args:
            written: statistics that the run wrote for each planned block, by ``row.col``.
        """
        planned = {block.key: block for block in self._plan.blocks}
        for key in sorted(planned.keys() | set(self._store.stored_shards())):
            where = f"block {key[0]}, {key[1]}"
            if key not in planned:
                yield f"has labels in {where}, which has no tissue"
                continue
            labels = self._store.read(planned[key].box)
            yield from self._label_faults(planned[key].box, labels, where)
            stats = written.get(f"{key[0]}.{key[1]}")
            yield from self._count_faults(planned[key], labels, stats, where)

    def figures(self) -> tuple[dict[str, Any], pa.Table]:
        """Return the figures of a summary, with areas counted over level 0, and the tile table.

        All blocks must have been counted by `faults` before.
        """
        classes, mm2 = self._store.layout.classes, self._plan.frame.pixel_area_mm2
        summary, tiles = measure(self._store, self._plan, classes, self._cores)
        tumor_px = sum(float(self._pixels[c.code]) for c in classes if c.role == "tumor")
        areas = {
            "tissue_area_mm2": round(int(self._pixels[1:].sum()) * mm2, 6),
            "tumor_area_mm2": round(tumor_px * mm2, 6),
            "class_area_mm2": {
                c.name: round(float(self._pixels[c.code]) * mm2, 6) for c in classes
            },
            "label_map_mpp": [self._plan.frame.mpp_y, self._plan.frame.mpp_x],
        }
        return {**asdict(summary), **areas}, tile_table(tiles, [c.name for c in classes])

    def _label_faults(self, box: Box, labels: UInt8, where: str) -> Iterator[str]:
        """Labels that are no class, and labels outside the tissue."""
        counts = np.bincount(labels.ravel(), minlength=256)
        self._pixels += counts
        if unknown := set(np.flatnonzero(counts).tolist()) - {0, *self._codes}:
            yield f"has labels in {where} that are no class: {sorted(unknown)}"
        if labels[~self._tissue.on(box, self._plan.frame)].any():
            yield f"has labels outside the tissue in {where}"

    def _count_faults(
        self, block: Block, labels: UInt8, stats: BlockStats | None, where: str
    ) -> Iterator[str]:
        """Counts of a block that differ from its statistics."""
        analysed_px = int(np.count_nonzero(labels))
        if stats is None or stats.analysed_px != analysed_px:
            expected = stats.analysed_px if stats else "none"
            yield f"has {analysed_px} labels in {where}, where {expected} were written"
        pool = pool_sums(np, (labels > 0).view(np.uint8)).astype(np.uint8)
        known = self._confidence_is_known
        confidence = self._store.read_heat_maps(block.box)[1] if known else None
        cores = tuple(count_cores(self._plan, block, self._codes, labels, pool, confidence))
        if stats is not None and stats.cores != cores:
            yield f"has other labels or another confidence in {where} than were counted there"
        self._cores.extend(cores)
