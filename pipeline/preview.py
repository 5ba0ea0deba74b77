"""Preview: a picture of a slide beside the same slide with its mask."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.roi.regions import Roi

Color = tuple[int, int, int]

_WIDTH_PX, _MIN_WIDTH_PX = 1600, 640
_MARGIN_PX = 20
_TITLE_PX, _TEXT_PX, _LINE_PX, _SWATCH_PX = 26, 20, 32, 22
_BAR_PX = 6

_ALPHA = 0.5
"""Opacity of a class's colour over the tissue, 0..1."""

_PAPER: Color = (255, 255, 255)
_INK: Color = (30, 30, 30)
_LINE: Color = (190, 190, 190)
_OUTLINE: Color = (0, 0, 0)


_REGION: Color = (0, 48, 143)
_REGION_PX = 3
"""Colour and width (px) of the outline of a region of interest; it has a halo of paper."""


def preview_of(
    store: MaskStore, title: str, class_area_mm2: Mapping[str, float], roi: Roi | None = None
) -> Image.Image:
    """Draw the preview of a finished mask.

    Args:
        store: masks of the slide, with all levels.
        title: name of the slide.
        class_area_mm2: area of each class, by name (mm2); a class without area is not in the
            legend.
        roi: regions of interest to which the slide was confined, or None.

    Raises:
        StoreError: if the mask cannot be read.
    """
    frames, panel = store.layout.level_frames, panel_frame(store.thumbnail_frame)
    level = max((k for k, frame in enumerate(frames) if frame.mpp <= panel.mpp), default=0)
    return render_preview(
        (store.read_thumbnail(), store.thumbnail_frame),
        (store.read_level(level), frames[level]),
        store.layout.classes,
        title,
        class_area_mm2,
        roi,
    )


def render_preview(
    thumbnail: tuple[UInt8, Frame],
    labels: tuple[UInt8, Frame],
    classes: Sequence[ClassInfo],
    title: str,
    class_area_mm2: Mapping[str, float],
    roi: Roi | None = None,
) -> Image.Image:
    """Draw a slide, the slide with its label map, a scale bar and a legend.

    The picture is at most 1600 px wide. Regions of interest are outlined on both.

    Args:
        thumbnail: thumbnail of the slide, uint8 ``[h, w, 3]``, and its frame.
        labels: a coarse level of its label map, uint8 ``[h', w']``, and its frame.
        classes: classes of the model.
        title: name of the slide.
        class_area_mm2: area of each class, by name (mm2); a class without area is not in the
            legend.
        roi: regions of interest to which the slide was confined, or None.
    """
    panel = panel_frame(thumbnail[1])
    size = (panel.extent.width, panel.extent.height)
    tissue = Image.fromarray(thumbnail[0]).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    overlay = Image.fromarray(
        overlay_labels(np.asarray(tissue), labels_on(panel, *labels), classes)
    )
    found = [(c, class_area_mm2.get(c.name, 0.0)) for c in classes]
    entries = [
        (c.color, f"{c.name.replace('_', ' ')}  {_area_text(area)}")
        for c, area in found
        if area > 0
    ]
    note = ""
    if roi:
        n = len(roi.regions)
        note = f", confined to {n} region{'s' if n > 1 else ''} of interest"
        for picture in (tissue, overlay):
            _outline_regions(picture, roi, panel)
    return _compose(title, note, (tissue, overlay), panel, entries)


def _outline_regions(picture: Image.Image, roi: Roi, panel: Frame) -> None:
    """Draw the outlines of regions of interest, and of what is cut out of them."""
    draw, native = ImageDraw.Draw(picture), roi.native
    scale = np.array([native.mpp_x / panel.mpp_x, native.mpp_y / panel.mpp_y])
    polygons = (*(p for region in roi.regions for p in region.polygons), *roi.ignored)
    rings = [ring[:, ::-1] * scale for polygon in polygons for ring in polygon]
    for color, width_px in ((_PAPER, _REGION_PX + 2), (_REGION, _REGION_PX)):
        for ring in rings:
            draw.line([tuple(point) for point in (*ring, ring[0])], color, width_px, "curve")


def panel_frame(thumbnail_frame: Frame) -> Frame:
    """Frame of one of the two panels: as large as the page allows, with nearly square pixels.

    Args:
        thumbnail_frame: frame of the slide's thumbnail.
    """
    height_um = thumbnail_frame.extent.height * thumbnail_frame.mpp_y
    width_um = thumbnail_frame.extent.width * thumbnail_frame.mpp_x
    max_width, max_height = _WIDTH_PX - 2 * _MARGIN_PX, 600
    if not _stacked(width_um, height_um):
        max_width, max_height = (max_width - _MARGIN_PX) // 2, 1100
    mpp = max(width_um / max_width, height_um / max_height)
    extent = Extent(max(1, round(height_um / mpp)), max(1, round(width_um / mpp)))
    return Frame(extent, height_um / extent.height, width_um / extent.width)


def labels_on(panel: Frame, labels: UInt8, frame: Frame) -> UInt8:
    """Return the labels under the centres of a panel's pixels.

    Args:
        panel: frame of the panel.
        labels: uint8 ``[h, w]``.
        frame: frame of the labels.

    Returns:
        uint8 ``[panel height, panel width]``; 0 beyond the label map.
    """
    ys, xs = (
        np.floor((np.arange(n) + 0.5) * mpp / label_mpp).astype(np.intp)
        for n, mpp, label_mpp in (
            (panel.extent.height, panel.mpp_y, frame.mpp_y),
            (panel.extent.width, panel.mpp_x, frame.mpp_x),
        )
    )
    height, width = labels.shape
    on = labels[np.ix_(np.minimum(ys, height - 1), np.minimum(xs, width - 1))]
    on[ys >= height] = 0
    on[:, xs >= width] = 0
    return on


def overlay_labels(pixels: UInt8, labels: UInt8, classes: Sequence[ClassInfo]) -> UInt8:
    """Draw class colours half over the tissue, and a line around the analysed region.

    Args:
        pixels: uint8 ``[h, w, 3]``.
        labels: uint8 ``[h, w]``; pixels with label 0 stay as they are.
        classes: classes of the model.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    colors = np.zeros((256, 3), np.float32)
    for c in classes:
        colors[c.code] = c.color
    inside = labels > 0
    alpha = np.where(inside, np.float32(_ALPHA), np.float32(0))[..., None]
    blended = pixels * (1 - alpha) + colors[labels] * alpha
    around = np.pad(inside, 1, mode="edge")
    deep = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    blended[inside & ~deep] = _OUTLINE
    result: UInt8 = np.rint(blended).astype(np.uint8)
    return result


def scale_bar_um(width_um: float) -> float:
    """Length of a scale bar (um): the largest of 1, 2, 5 x 10^k up to a quarter of a width (um)."""
    power = 10.0 ** math.floor(math.log10(width_um / 4))  # a logarithm is rounded, up or down
    return max(step * power for step in (0.5, 1, 2, 5) if step * power <= width_um / 4)


def _stacked(width_um: float, height_um: float) -> bool:
    """Tell if the panels lie below each other, which makes them larger on wide slides."""
    return width_um > 2 * height_um


def _area_text(area_mm2: float) -> str:
    """Format an area as in the tables; an area above 0 is never shown as 0."""
    return f"{area_mm2:.3f} mm2" if area_mm2 >= 0.001 else "< 0.001 mm2"


def _compose(
    title: str,
    note: str,
    panels: tuple[Image.Image, Image.Image],
    panel: Frame,
    entries: Sequence[tuple[Color, str]],
) -> Image.Image:
    """Lay out title, panels, scale bar and legend on one page.

    Args:
        title: name of the slide, which is cut to fit.
        note: text after it, which is not cut.
        panels: the slide, and the slide with its labels.
        panel: frame of each panel.
        entries: colour and text of each entry of the legend.
    """
    width, height = panels[0].size
    stacked = _stacked(width * panel.mpp_x, height * panel.mpp_y)
    dx, dy = (0, height + _MARGIN_PX) if stacked else (width + _MARGIN_PX, 0)
    page_width = max(dx + width + 2 * _MARGIN_PX, _MIN_WIDTH_PX)
    top = 2 * _MARGIN_PX + _TITLE_PX
    bottom = top + dy + height + _MARGIN_PX
    columns, column_px, fitted = _columns(entries, page_width - 2 * _MARGIN_PX)
    rows = max(1, math.ceil(len(fitted) / columns))
    page = Image.new("RGB", (page_width, bottom + (1 + rows) * _LINE_PX + _MARGIN_PX), _PAPER)
    draw = ImageDraw.Draw(page)
    title_px = page_width - 2 * _MARGIN_PX - math.ceil(_font(_TITLE_PX).getlength(note))
    text = _fit(title, _TITLE_PX, title_px) + note
    draw.text((_MARGIN_PX, _MARGIN_PX), text, _INK, _font(_TITLE_PX))
    for k, image in enumerate(panels):
        x, y = _MARGIN_PX + k * dx, top + k * dy
        page.paste(image, (x, y))
        draw.rectangle((x - 1, y - 1, x + width, y + height), outline=_LINE)
    _draw_scale_bar(draw, bottom, panel)
    if not fitted:
        draw.text((_MARGIN_PX, bottom + _LINE_PX), "nothing was analysed", _INK, _font(_TEXT_PX))
    for k, (color, text) in enumerate(fitted):
        x, y = _MARGIN_PX + k % columns * column_px, bottom + (1 + k // columns) * _LINE_PX
        draw.rectangle((x, y, x + _SWATCH_PX, y + _SWATCH_PX), fill=color, outline=_INK)
        draw.text((x + _SWATCH_PX + 8, y), text, _INK, _font(_TEXT_PX))
    return page


def _draw_scale_bar(draw: ImageDraw.ImageDraw, y: int, panel: Frame) -> None:
    length_um = scale_bar_um(panel.extent.width * panel.mpp_x)
    length_px = max(1, round(length_um / panel.mpp_x))
    draw.rectangle((_MARGIN_PX, y + 8, _MARGIN_PX + length_px - 1, y + 8 + _BAR_PX - 1), fill=_INK)
    text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} um"
    draw.text((_MARGIN_PX + length_px + 8, y), text, _INK, _font(_TEXT_PX))


def _columns(
    entries: Sequence[tuple[Color, str]], width_px: int
) -> tuple[int, int, list[tuple[Color, str]]]:
    """Divide the legend into columns.

    Args:
        entries: colour and text of each entry.
        width_px: width of the legend (px).

    Returns:
        number of columns, width of a column (px), and the entries with their texts cut to fit.
    """
    extra_px = _SWATCH_PX + 8 + 2 * _MARGIN_PX
    fitted = [(color, _fit(text, _TEXT_PX, width_px - extra_px)) for color, text in entries]
    column_px = extra_px + math.ceil(
        max((_font(_TEXT_PX).getlength(text) for _, text in fitted), default=0)
    )
    return max(1, (width_px + 2 * _MARGIN_PX) // column_px), column_px, fitted


def _fit(text: str, size_px: int, width_px: int) -> str:
    """Cut a text to a width (px); three dots stand for the rest."""
    font = _font(size_px)
    if font.getlength(text) <= width_px:
        return text
    keep = next(
        n
        for n in range(len(text), -1, -1)
        if n == 0 or font.getlength(text[:n] + "...") <= width_px
    )
    return text[:keep] + "..."


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which every machine has. It has ASCII only, so um and mm2."""
    return ImageFont.load_default(size_px)
