"""Figures of the regions of interest of a slide, for its ``summary.json``."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.roi.region_areas import region_areas
from noctile.workflows.jobs.worker import planned_roi
from noctile.workflows.results.layout import SlideFolder


def region_figures(folder: SlideFolder, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a summary that tell to what the slide is confined.

    They are the hashes of the files that the user gave, and with regions of interest their area
    together and the areas inside each. The dictionary is empty for a slide that is not confined.

    Args:
        folder: folder of the slide, whose label map is complete.
        described: contents of its ``plan.json``.

    Raises:
        StoreError: if the regions or the masks cannot be read.
    """
    confined: dict[str, Any] = dict(described.get("confined", {}))
    roi = planned_roi(folder, described)
    if roi is None:
        return confined
    area_mm2, regions = region_areas(MaskStore.open(folder.mask), roi)
    return confined | {"roi_area_mm2": area_mm2, "regions": [asdict(one) for one in regions]}
