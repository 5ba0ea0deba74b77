"""Spatial measures of a label map, computed."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from noctile.pipeline.arrays import Bool, Float64, UInt8
from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.spatial.classes import TissueKinds, codes_of, has_code, tissue_kinds
from noctile.pipeline.spatial.fields import FIELD_MM, worst_field
from noctile.pipeline.spatial.foci import only_foci
from noctile.pipeline.spatial.measures import (
    FOCUS_EDGES_MM2,
    SPATIAL_VERSION,
    STROMA_CUT,
    STROMA_HIGH,
    STROMA_LOW,
    SpatialMeasures,
)
from noctile.pipeline.spatial.sampling import sample_labels
from noctile.pipeline.spatial.zones import TILE_PX, zone_tiles

_NO_FOCUS = "the slide has no tumor focus"
_NO_INVASIVE = "the slide has no focus of invasive tumor"

_FIELD = ("worst_field_tumor_stroma_ratio", "worst_field_tumor_stroma_class", "worst_field_um")
_INFLAMMATION = (
    "bed_inflammatory_mm2",
    "border_inflammatory_mm2",
    "stromal_inflammation_fraction",
    "bed_inflammation_fraction",
)
_OF_STROMA = (
    "point_um",
    "bed_mm2",
    "bed_tumor_mm2",
    "bed_stroma_mm2",
    "border_stroma_mm2",
    "tumor_stroma_ratio",
    "tumor_stroma_class",
    *_FIELD,
    *_INFLAMMATION,
)
"""Figures that need a class of invasive tumor and one of stroma."""


@dataclass(frozen=True, slots=True)
class ZoneCounts:
    """Numbers of points in the zones of a slide.

    Attributes:
        bed: analysed points of the tumor bed.
        bed_tumor: invasive tumor in the bed.
        bed_stroma: stroma in the bed.
        bed_inflammatory: inflammatory cells in the bed.
        border_stroma: stroma in the border zone.
        border_inflammatory: inflammatory cells in the border zone.
    """

    bed: int = 0
    bed_tumor: int = 0
    bed_stroma: int = 0
    bed_inflammatory: int = 0
    border_stroma: int = 0
    border_inflammatory: int = 0


@dataclass(frozen=True, slots=True)
class _Figures:
    """Figures of a slide so far.

    Attributes:
        values: value of each figure, by its name.
        reasons: reason why a figure is None, by its name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def lack(self, names: Iterable[str], reason: str) -> None:
        """Note figures that are not measured."""
        for name in names:
            self.values[name], self.reasons[name] = None, reason

    def ratio(self, name: str, part: float, rest: float, reason: str) -> None:
        """Note part / (part + rest), or the reason if both are 0."""
        if part + rest > 0:
            self.values[name] = round(part / (part + rest), 6)
        else:
            self.lack([name], reason)

    def stroma_class(self, name: str, ratio: float | None) -> None:
        """Note the class of a tumor-stroma ratio."""
        if ratio is None:
            self.lack([name], self.reasons[name.replace("_class", "_ratio")])
        else:
            self.values[name] = STROMA_HIGH if ratio > STROMA_CUT else STROMA_LOW


def measure_space(
    store: MaskStore, class_area_mm2: Mapping[str, float], foci_mm2: Float64, threads: int = 1
) -> SpatialMeasures:
    """Compute the spatial measures of a slide.

    Args:
        store: masks of the slide.
        class_area_mm2: area of each class on the whole slide (mm2), by its name.
        foci_mm2: float64 ``[n]``, areas of the tumor foci (mm2).
        threads: number of blocks that are read at the same time.

    Raises:
        StoreError: if the masks cannot be read.
    """
    kinds, figures = tissue_kinds(store.layout.classes), _Figures()
    _measure_foci(figures, kinds, foci_mm2)
    _measure_necrosis(figures, kinds, class_area_mm2)
    if not kinds.invasive:
        figures.lack(_OF_STROMA, "the model has no class of invasive tumor")
    elif not kinds.stroma:
        figures.lack(_OF_STROMA, "the model has no class stroma")
    else:
        _measure_stroma(figures, kinds, *sample_labels(store, threads))
    reasons = dict(sorted(figures.reasons.items()))
    return SpatialMeasures(SPATIAL_VERSION, **figures.values, not_measured=reasons)


def _measure_foci(figures: _Figures, kinds: TissueKinds, foci_mm2: Float64) -> None:
    """Add the sizes of the tumor foci."""
    total_mm2 = float(foci_mm2.sum())
    counts = np.histogram(foci_mm2, [*FOCUS_EDGES_MM2, np.inf])[0]
    figures.values["foci_area_mm2"] = round(total_mm2, 6)
    figures.values["foci_by_size"] = tuple(counts.tolist())
    names = ("median_focus_mm2", "p90_focus_mm2", "largest_focus_share")
    if not len(foci_mm2):
        figures.lack(names, _NO_FOCUS if kinds.tumor else "the model has no class of tumor")
        return
    median, p90 = np.quantile(foci_mm2, (0.5, 0.9)).tolist()
    sizes = (median, p90, float(foci_mm2.max()) / total_mm2)
    figures.values.update({name: round(size, 6) for name, size in zip(names, sizes, strict=True)})


def _measure_necrosis(
    figures: _Figures, kinds: TissueKinds, class_area_mm2: Mapping[str, float]
) -> None:
    """Add the necrosis of the whole slide; carcinoma in situ is tumor here."""
    if not kinds.necrosis:
        figures.lack(("necrosis_mm2", "necrosis_fraction"), "the model has no class necrosis")
        return
    necrosis, tumor = (
        sum(class_area_mm2[info.name] for info in classes)
        for classes in (kinds.necrosis, kinds.tumor)
    )
    figures.values["necrosis_mm2"] = round(necrosis, 6)
    if not kinds.tumor:
        figures.lack(["necrosis_fraction"], "the model has no class of tumor")
    else:
        why = "the slide has neither tumor nor necrosis"
        figures.ratio("necrosis_fraction", necrosis, tumor, why)


def _measure_stroma(figures: _Figures, kinds: TissueKinds, labels: UInt8, frame: Frame) -> None:
    """Add stroma and inflammatory cells in bed and border zone, and the worst field."""
    foci = only_foci(has_code(labels, codes_of(kinds.invasive)), frame)
    figures.values["point_um"] = (round(frame.mpp_y, 6), round(frame.mpp_x, 6))
    counts = count_zones(labels, foci, kinds, frame)
    areas = {f"{name}_mm2": n * frame.pixel_area_mm2 for name, n in asdict(counts).items()}
    figures.values.update({name: round(area, 6) for name, area in areas.items()})
    why = "neither tumor nor stroma is in the tumor bed" if foci.any() else _NO_INVASIVE
    figures.ratio("tumor_stroma_ratio", counts.bed_stroma, counts.bed_tumor, why)
    figures.stroma_class("tumor_stroma_class", figures.values["tumor_stroma_ratio"])
    _measure_worst_field(figures, kinds, labels, foci, frame)
    if not kinds.inflammatory:
        figures.lack(_INFLAMMATION, "the model has no class of inflammatory cells")
        return
    for name, zone, where in (
        ("stromal_inflammation_fraction", "border", "near the tumor border"),
        ("bed_inflammation_fraction", "bed", "in the tumor bed"),
    ):
        why = f"neither stroma nor inflammatory cells are {where}" if foci.any() else _NO_INVASIVE
        inflammatory, stroma = areas[f"{zone}_inflammatory_mm2"], areas[f"{zone}_stroma_mm2"]
        figures.ratio(name, inflammatory, stroma, why)


def _measure_worst_field(
    figures: _Figures, kinds: TissueKinds, labels: UInt8, foci: Bool, frame: Frame
) -> None:
    """Add the field with the most stroma."""
    tumor, stroma = (has_code(labels, codes_of(c)) for c in (kinds.invasive, kinds.stroma))
    found = worst_field(tumor, stroma, foci, frame) if foci.any() else None
    if found is None:
        why = f"no field of {FIELD_MM:g} mm has tumor on all sides" if foci.any() else _NO_INVASIVE
        figures.lack(_FIELD, why)
        return
    figures.values["worst_field_um"] = (round(found.y_um, 3), round(found.x_um, 3))
    figures.values["worst_field_tumor_stroma_ratio"] = round(found.ratio, 6)
    figures.stroma_class("worst_field_tumor_stroma_class", found.ratio)


def count_zones(
    labels: UInt8, foci: Bool, kinds: TissueKinds, frame: Frame, tile_px: int = TILE_PX
) -> ZoneCounts:
    """Count tumor, stroma and inflammatory cells in the tumor bed and in the border zone.

    Args:
        labels: uint8 ``[h, w]``, labels of the points; 0 is not analysed and counts nowhere.
        foci: bool ``[h, w]``, invasive tumor without specks, around which the zones lie.
        kinds: classes of each kind.
        frame: frame of the points.
        tile_px: side of the tiles in which zones are computed (px).
    """
    tumor, stroma, inflammatory = map(codes_of, (kinds.invasive, kinds.stroma, kinds.inflammatory))
    bed, border = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for tile in zone_tiles(foci, frame, tile_px):
        part = labels[tile.box.slices()]
        bed += np.bincount(part[tile.bed], minlength=256)
        border += np.bincount(part[tile.border], minlength=256)
    return ZoneCounts(
        bed=int(bed[1:].sum()),
        bed_tumor=int(bed[tumor].sum()),
        bed_stroma=int(bed[stroma].sum()),
        bed_inflammatory=int(bed[inflammatory].sum()),
        border_stroma=int(border[stroma].sum()),
        border_inflammatory=int(border[inflammatory].sum()),
    )
