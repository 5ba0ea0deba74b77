"""Record of the slide, the model, the settings and the versions that made a result."""

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from noctile.pipeline.quality import mpp_flags
from noctile.pipeline.roi.confinement import Confinement
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.settings import PIXEL_SETTINGS

_PACKAGES = (
    "noctile",
    "torch",
    "segmentation-models-pytorch",
    "openslide-python",
    "tiffslide",
    "zarr",
    "numpy",
)
"""Packages that pixels may depend on."""


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that pixels may depend on, by name."""
    extras = (name for name in ("openvino",) if find_spec(name))
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in (*_PACKAGES, *extras)},
    }


def describe(info: SlideInfo) -> dict[str, Any]:
    """Properties of a slide as plain values; lengths in um and in px of level 0."""
    return {
        "slide_id": info.slide_id,
        "path": str(info.path),
        "fingerprint": info.fingerprint,
        "vendor": info.vendor,
        "reader": info.reader,
        "compression": info.compression,
        "objective_power": info.objective_power,
        "mpp": [info.frame.mpp_y, info.frame.mpp_x],
        "mpp_source": info.mpp_source,
        "extent_px": [info.frame.extent.height, info.frame.extent.width],
        "bounds_px": [info.bounds.y, info.bounds.x, info.bounds.height, info.bounds.width],
        "levels_mpp": [[level.mpp_y, level.mpp_x] for level in info.levels],
    }


def given_values(entry: SlideEntry) -> dict[str, Any]:
    """Values that the user gave for a slide and that its mask depends on, as summaries hold them.

    ``mpp_given`` is the size of a level-0 pixel (um; y, x), ``channel_order_given`` is "rgb" or
    "bgr". Each is None if the user gave none.
    """
    return {
        "mpp_given": list(entry.mpp) if entry.mpp else None,
        "channel_order_given": {None: None, False: "rgb", True: "bgr"}[entry.bgr],
    }


def confinement(entry: SlideEntry) -> Confinement:
    """Files that confine the analysis of a slide."""
    return Confinement(entry.roi, entry.tissue_mask)


def planned_flags(described: Mapping[str, Any]) -> list[str]:
    """Quality flags that are known when a slide is planned: tissue, channel order, pixel size.

    Args:
        described: contents of the slide's ``plan.json``.
    """
    return [*described["tissue"]["flags"], *mpp_flags(described["slide"]["mpp_source"])]


def provenance(info: SlideInfo, run: RunContext) -> dict[str, Any]:
    """Metadata of a mask, so that the file explains itself."""
    return {
        "slide": describe(info),
        "model": {"name": run.card.name, "sha256": run.card.sha256, "licence": run.card.licence},
        "device": run.resources.device,
        "backend": run.resources.backend,
        "settings": run.settings.model_dump(mode="json", include=PIXEL_SETTINGS),
        "versions": versions(),
    }
