"""Description of one slide: file, pixel size, tissue, and the tiles that a run would predict."""

from pathlib import Path

from PIL import Image
from scipy import ndimage

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Frame
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.plan import TilePlan, plan_tiles
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.channel_order import DOUBT_FLAG
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import find_tissue
from noctile.pipeline.tissue_mask import TissueMask
from noctile.workflows.results.files import write_atomic
from noctile.workflows.settings import RunSettings

_OUTLINE_RGB = (0, 160, 60)


def inspect_slide(
    path: Path, mpp: float | None, settings: RunSettings, thumbnail: Path | None
) -> dict[str, str]:
    """Describe a slide: text by name, in the order in which it is shown.

    Args:
        path: file of the slide.
        mpp: pixel size of level 0 (um), where the file states none.
        settings: settings of the model, of tiling and of the tissue search.
        thumbnail: file to which the thumbnail with the outline of the tissue is written; None to
            write nothing.

    Raises:
        SlideError: if the slide cannot be opened or read, or its pixel size is not plausible.
        UsageError: if there is no such model.
    """
    card = read_card(find_model(settings.model))
    reader = open_slide(path, mpp=mpp)
    try:
        info = reader.info
        pixels, frame = read_thumbnail(reader, settings.tissue.mpp)
        channel_flags, order = list(reader.flags), _channel_order(reader)
    finally:
        reader.close()
    tissue = find_tissue(pixels, frame, settings.tissue)
    plan = plan_tiles(info.slide_id, info.frame, tissue, settings.tiling(card))
    if thumbnail is not None:
        write_atomic(thumbnail, Image.fromarray(draw_outline(pixels, tissue)).save)
    return {
        **_describe_file(info),
        "channels": order,
        **_describe_tissue(tissue, frame, channel_flags),
        **_describe_plan(plan, card, settings.batch_size or 1),
    }


def draw_outline(thumbnail: UInt8, tissue: TissueMask) -> UInt8:
    """Return a copy of the thumbnail, ``[h, w, 3]``, with the outline of the tissue."""
    edge = ndimage.binary_dilation(tissue.mask, iterations=2) & ~tissue.mask
    picture = thumbnail.copy()
    picture[edge] = _OUTLINE_RGB
    return picture


def _describe_file(info: SlideInfo) -> dict[str, str]:
    frame, extent = info.frame, info.frame.extent
    power = f", objective {info.objective_power:g}x" if info.objective_power else ""
    levels = (f"{f.extent.width} x {f.extent.height} ({f.mpp:.4g} um/px)" for f in info.levels)
    return {
        "slide": info.slide_id,
        "vendor": f"{info.vendor}, read by {info.reader}",
        "size": f"{extent.width} x {extent.height} px, {frame.area_mm2:.1f} mm2",
        "mpp": f"{frame.mpp_x:.4g} x {frame.mpp_y:.4g} um/px from {info.mpp_source}{power}",
        "levels": ", ".join(levels),
        "compression": info.compression,
        "bounds": f"x {info.bounds.x}, y {info.bounds.y} of the file's level 0",
    }


def _channel_order(reader: SlideReader) -> str:
    if reader.bgr:
        return "BGR, read as RGB"
    return "doubtful, read as it is" if DOUBT_FLAG in reader.flags else "RGB"


def _describe_tissue(tissue: TissueMask, frame: Frame, channel_flags: list[str]) -> dict[str, str]:
    share = tissue.area_mm2 / frame.area_mm2
    return {
        "tissue": f"{tissue.area_mm2:.2f} mm2, {share:.1%} of the slide ({tissue.rule})",
        "flags": ", ".join([*tissue.flags, *channel_flags]) or "none",
    }


def _describe_plan(plan: TilePlan, card: ModelCard, batch_size: int) -> dict[str, str]:
    disk_mb, task_mb = plan.disk_bytes / 1e6, plan.peak_bytes(batch_size) / 1e6
    return {
        "tiles": f"{len(plan.tiles)} of {plan.grid.tile_px} px at {plan.frame.mpp:.4g} um/px in "
        f"{len(plan.blocks)} blocks ({plan.predictions} predictions) for model {card.name}",
        "at most": f"{disk_mb:.1f} MB on disk, {task_mb:.0f} MB of memory a task beside the model",
    }
