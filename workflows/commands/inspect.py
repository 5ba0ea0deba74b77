"""What `noctile inspect` tells of one slide, before any night is spent on it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.plan import plan_tiles
from noctile.pipeline.slides.channel_order import BGR_FLAG
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueMask, find_tissue
from noctile.workflows.results.layout import write_atomic
from noctile.workflows.settings import RunSettings

_OUTLINE_RGB = (0, 160, 60)


def inspect_slide(
    path: Path, mpp: float | None, settings: RunSettings, thumbnail: Path | None
) -> dict[str, str]:
    """Facts of a slide as words, in the order in which they are read.

    Args:
        path: of the slide.
        mpp: its pixel size, if the file does not say it (um).
        settings: model, tiling and tissue.
        thumbnail: where to write the slide with its tissue outlined; None writes nothing.

    Raises:
        SlideError: if the slide cannot be opened, read or believed.
        UsageError: if there is no such model.
    """
    card = read_card(find_model(settings.model))
    reader = open_slide(path, mpp=mpp)
    try:
        info = reader.info
        overview, frame = read_thumbnail(reader, settings.tissue.mpp)
        bgr = [BGR_FLAG] if reader.bgr else []
    finally:
        reader.close()
    tissue = find_tissue(overview, frame, settings.tissue)
    plan = plan_tiles(info.slide_id, info.frame, tissue, settings.tiling(card))
    if thumbnail is not None:
        write_atomic(thumbnail, Image.fromarray(outlined(overview, tissue)).save)
    power = f", objective {info.objective_power:g}x" if info.objective_power else ""
    return {
        "slide": info.slide_id,
        "vendor": f"{info.vendor}, read by {info.reader}",
        "size": f"{info.frame.extent.width} x {info.frame.extent.height} px, {info.frame.area_mm2:.1f} mm2",
        "mpp": f"{info.frame.mpp_x:.4g} x {info.frame.mpp_y:.4g} um/px from {info.mpp_source}{power}",
        "levels": ", ".join(
            f"{f.extent.width} x {f.extent.height} ({f.mpp:.4g} um/px)" for f in info.levels
        ),
        "compression": info.compression,
        "bounds": f"x {info.bounds.x}, y {info.bounds.y} of the file's level 0",
        "tissue": f"{tissue.area_mm2:.2f} mm2, {tissue.area_mm2 / frame.area_mm2:.1%} of the slide ({tissue.rule})",
        "flags": ", ".join([*tissue.flags, *bgr]) or "none",
        "tiles": f"{len(plan.tiles)} of {plan.grid.tile_px} px at {plan.frame.mpp:.4g} um/px in {len(plan.blocks)} "
        f"blocks ({plan.predictions} predictions) for model {card.name}",
        "at most": f"{plan.disk_bytes / 1e6:.1f} MB on disk, "
        f"{plan.peak_bytes(settings.batch_size or 1) / 1e6:.0f} MB of memory a task beside the model",
    }


def outlined(overview: npt.NDArray[np.uint8], tissue: TissueMask) -> npt.NDArray[np.uint8]:
    """The overview, uint8 ``[h, w, 3]``, with the tissue's outline drawn on it."""
    edge = ndimage.binary_dilation(tissue.mask, iterations=2) & ~tissue.mask
    picture = overview.copy()
    picture[edge] = _OUTLINE_RGB
    return picture
