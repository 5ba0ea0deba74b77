"""Areas inside each region of interest, counted on the label map strip by strip."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.roi.cut import strips
from noctile.pipeline.roi.regions import Roi


@dataclass(frozen=True, slots=True)
class RegionAreas:
    """Areas inside one region; regions that overlap each count in full.

    Attributes:
        region: name of the region.
        region_class: name of its class; None without one.
        region_area_mm2: area of the region on the slide (mm2).
        tissue_area_mm2: area of the analysed pixels in it (mm2).
        tumor_area_mm2: area of all classes with the role ``tumor`` in it (mm2).
        tumor_fraction_of_tissue: tumor area / tissue area, 0..1; None without tissue.
        class_area_mm2: area of each class in it (mm2), by name.
    """

    region: str
    region_class: str | None
    region_area_mm2: float
    tissue_area_mm2: float
    tumor_area_mm2: float
    tumor_fraction_of_tissue: float | None
    class_area_mm2: dict[str, float]


def region_areas(store: MaskStore, roi: Roi) -> tuple[float, list[RegionAreas]]:
    """Measure each region of interest at the pixel size of the label map.

    Args:
        store: masks of the slide.
        roi: the regions.

    Returns:
        the area of all regions together (mm2), where they overlap counted once; and the areas of
        each.

    Raises:
        RoiError: if it would take minutes to draw the regions.
        StoreError: if the masks cannot be read.
    """
    pixels, counts, union_px = _counts(store, roi)
    mm2 = store.layout.frame.pixel_area_mm2
    areas = [
        _areas(store, roi.regions[k].name, roi.regions[k].label, int(pixels[k]), counts[k])
        for k in range(len(roi.regions))
    ]
    return round(union_px * mm2, 6), areas


def _counts(store: MaskStore, roi: Roi) -> tuple[Int64, Int64, int]:
    """Count the pixels and the labels in each region.

    Returns:
        int64 ``[n]``, pixels of each region; int64 ``[n, 256]``, its labels; pixels of all regions
        together.
    """
    placed, n = roi.on(store.layout.frame), len(roi.regions)
    pixels, labels_in, union_px = np.zeros(n, np.int64), np.zeros((n, 256), np.int64), 0
    stored = set(store.stored_shards())
    for key, block in _blocks(store):
        for box in filter(placed.touches, strips(block)):
            labels = store.read(box) if key in stored else None
            union = np.zeros((box.height, box.width), np.bool_)
            for k, inside in placed.each(box):
                union |= inside
                pixels[k] += np.count_nonzero(inside)
                if labels is not None:
                    labels_in[k] += np.bincount(labels[inside], minlength=256)
            union_px += int(np.count_nonzero(union))
    return pixels, labels_in, union_px


def _blocks(store: MaskStore) -> Iterator[tuple[tuple[int, int], Box]]:
    """Yield the position and the box of every block of the label map, with labels or without."""
    layout = store.layout
    side, extent = layout.shard_px(0), layout.frame.extent
    for row, col in product(range(-(-extent.height // side)), range(-(-extent.width // side))):
        yield (row, col), layout.shard_box(row, col)


def _areas(store: MaskStore, name: str, label: str, region_px: int, labels: Int64) -> RegionAreas:
    classes, mm2 = store.layout.classes, store.layout.frame.pixel_area_mm2
    tissue_px = int(labels[1:].sum())
    tumor_px = sum(int(labels[info.code]) for info in classes if info.role == "tumor")
    return RegionAreas(
        region=name,
        region_class=label or None,
        region_area_mm2=round(region_px * mm2, 6),
        tissue_area_mm2=round(tissue_px * mm2, 6),
        tumor_area_mm2=round(tumor_px * mm2, 6),
        tumor_fraction_of_tissue=round(tumor_px / tissue_px, 6) if tissue_px else None,
        class_area_mm2={info.name: round(int(labels[info.code]) * mm2, 6) for info in classes},
    )
