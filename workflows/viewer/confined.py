"""Outlines of what a slide was confined to: its regions of interest, and its given tissue mask."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.shapes import Scale, polygons_of
from noctile.pipeline.export.trace import trace_foci
from noctile.pipeline.roi.confinement import confined_to
from noctile.pipeline.roi.regions import Polygon, Roi
from noctile.pipeline.tissue_mask import TissueMask
from noctile.workflows.jobs.worker import read_plan
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.summaries import are_regions
from noctile.workflows.viewer.views import SlideView

_TISSUE_PX, _MOST_PARTS = 2048, 1000
"""Longest side of the mask from which the outline of tissue is made (px), and most parts that are
shown, of which there are the largest."""

_Outline = dict[str, Any]


def confined_document(view: SlideView) -> dict[str, Any] | None:
    """Describe to what a slide was confined; None for a slide that was analysed whole.

    Each outline has ``name``, ``kind`` (region, ignored or tissue) and ``rings``: x and y of their
    corners (px of level 0, from the corner of the scanned region). A region has areas (mm2), too.

    Raises:
        StoreError: if a file of the result is damaged.
    """
    summary, folder = view.result.summary, SlideFolder(view.result.path)
    if not are_regions(summary.get("regions", [])):
        raise StoreError(f"{folder.summary} is damaged: its regions are not as Noctile writes them")
    if not (text := confined_to(summary)):
        return None
    try:
        return {"text": text, "outlines": list(_outlines(folder, summary))}
    except (LookupError, TypeError, ValueError, OSError, ZeroDivisionError) as error:
        what = f"{folder.plan} cannot be read: {error!r:.200}; run again with --redo"
        raise StoreError(what) from error


def _outlines(folder: SlideFolder, summary: Mapping[str, Any]) -> Iterator[_Outline]:
    _, tissue, _ = read_plan(folder)
    if isinstance(tissue.within, Roi):
        yield from _regions(tissue.within, summary)
    if "tissue_mask_given" in summary:
        yield _tissue(tissue, *map(float, summary["mpp"]))


def _regions(roi: Roi, summary: Mapping[str, Any]) -> Iterator[_Outline]:
    """Outlines of the regions of interest, and of what is cut out of all of them."""
    for region, figures in zip(roi.regions, summary["regions"], strict=True):
        areas = {name: figures[name] for name in ("tissue_area_mm2", "tumor_area_mm2")}
        rings = _rings(region.polygons)
        yield {"name": figures["region"], "kind": "region", "rings": rings, **areas}
    if roi.ignored:
        yield {"name": "Ignore*", "kind": "ignored", "rings": _rings(roi.ignored)}


def _rings(polygons: Iterable[Polygon]) -> list[list[list[float]]]:
    """Rings of polygons, with holes, as x and y."""
    return [_plain(ring[:, ::-1]) for ring in chain.from_iterable(polygons)]


def _tissue(tissue: TissueMask, mpp_y: float, mpp_x: float) -> _Outline:
    """Outline of the tissue of a given mask, inside the regions of interest if there are any.

    Args:
        tissue: the mask.
        mpp_y: height of a level-0 pixel (um).
        mpp_x: width of a level-0 pixel (um).
    """
    extent = tissue.frame.extent
    times = max(1.0, max(extent.height, extent.width) / _TISSUE_PX)
    frame = tissue.frame.at(tissue.frame.mpp * times)
    labels = tissue.on(frame.box, frame).astype(np.uint8)
    parts = chain.from_iterable(trace_foci([(0, labels)], frame.extent.width))
    largest = sorted(parts, key=lambda part: -part.area_px)[:_MOST_PARTS]
    scale = Scale(frame.mpp_y, frame.mpp_x, frame.mpp_y / mpp_y, frame.mpp_x / mpp_x)
    polygons = polygons_of(largest, scale, simplify_um=frame.mpp)
    lines = chain.from_iterable((one.exterior, *one.interiors) for one in polygons)
    rings = [_plain(np.array(line.coords)[:-1]) for line in lines]
    return {"name": "tissue mask", "kind": "tissue", "rings": rings}


def _plain(points: npt.NDArray[np.float64]) -> list[list[float]]:
    """Points as lists, to a tenth of a pixel."""
    listed: list[list[float]] = points.round(1).tolist()
    return listed
