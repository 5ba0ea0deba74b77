"""Segmentation of one slide or image for a program, without a folder of results."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.roi.confinement import Confinement
from noctile.pipeline.segment_slide import Segmentation, segment_slide
from noctile.pipeline.slide_plan import plan_slide
from noctile.pipeline.slides.array import array_reader
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.open import open_slide
from noctile.workflows.jobs.worker import cached_predictor
from noctile.workflows.run.model import open_model
from noctile.workflows.settings import load_settings


def segment(
    slide: str | os.PathLike[str] | UInt8,
    *,
    mpp: float | tuple[float, float] | None = None,
    model: str | os.PathLike[str] = "tumor",
    roi: str | os.PathLike[str] | None = None,
    tissue_mask: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Segmentation:
    """Segment one slide, or one image in memory, in this process.

    Labels and maps are those of a run with the same settings, byte for byte. All labels are in
    memory, so a slide of 100,000 x 100,000 px at 0.25 um takes 2.5 GB with a model at 0.5 um. The
    model stays loaded for the next call.

    Args:
        slide: path of a slide, or an image: uint8 ``[h, w, 3]`` in RGB order.
        mpp: size of a level-0 pixel (um), or of its two sides (y, x). It overrides the one in the
            file. An array needs it.
        model: name of an installed model, or path of a model folder.
        roi: GeoJSON file with regions of interest, to which the analysis is confined.
        tissue_mask: picture or mask of Noctile that says where tissue is.
        **settings: other settings of a run by name, such as ``device="cpu"`` or ``threads=4``.

    Raises:
        UsageError: if a setting or the model cannot be used, or an array is no image or has no
            ``mpp``.
        SlideError: if the slide cannot be opened or read, its pixel size is unknown or implausible,
            too much of its tissue is unreadable, or ``roi`` or ``tissue_mask`` is not that of the
            slide.
    """
    given = {"model": os.fspath(model), "engine": "serial", **settings}
    checked = load_settings(None, **given)
    opened = open_model(checked)
    key, folder, resources = opened.pixels_key, opened.folder, opened.resources
    predict = cached_predictor(key, folder, resources, checked.compile)
    reader = _reader(slide, mpp)
    try:
        tiling, stain = checked.tiling(opened.card), opened.card.stain is not None
        confined = Confinement(*(Path(path) if path else None for path in (roi, tissue_mask)))
        planned = plan_slide(reader, checked.tissue, tiling, measure_stain=stain, confined=confined)
        batch_size = resources.batch_size or predict.batch_size
        return segment_slide(reader, planned, predict, batch_size)
    finally:
        reader.close()


def _reader(
    slide: str | os.PathLike[str] | UInt8, mpp: float | tuple[float, float] | None
) -> SlideReader:
    if not isinstance(slide, np.ndarray):
        return open_slide(slide, mpp=mpp)
    if mpp is None:
        raise UsageError("an image in memory has no pixel size; pass mpp, in um")
    return array_reader(slide, mpp)
