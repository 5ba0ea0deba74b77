"""Gallery of an evaluation: image, truth and prediction of the first regions, side by side."""

import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.truth.region import LabelledPixels
from noctile.pipeline.truth.scheme import IGNORED

MAX_SAMPLES: Final = 10
"""Largest number of regions in the gallery."""

_SIDE, _GAP, _LINE, _SWATCH, _TEXT = 256, 8, 22, 14, 14
"""Lengths (px): side of a picture, gap, height of a line, side of a colour square, font size."""

_INK, _SOFT, _PAPER, _UNKNOWN = (31, 41, 51), (91, 103, 112), (255, 255, 255), (236, 238, 240)
_NOT_SCORED = "not scored"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A region in the gallery, shrunk so that it can stay in memory.

    Attributes:
        title: name of the region.
        note: short text about the prediction's quality.
        rgb: pixels of the image, uint8 ``[h, w, 3]``, at most `_SIDE` on a side.
        truth: true class of each pixel or `IGNORED`, uint8 ``[h, w]``.
        predicted: predicted class of each pixel, uint8 ``[h, w]``.
    """

    title: str
    note: str
    rgb: UInt8
    truth: UInt8
    predicted: UInt8


def shrink_sample(title: str, note: str, pixels: LabelledPixels, predicted: UInt8) -> Sample:
    """Shrink a region to the gallery's size.

    Pixels are averaged; each class is the one at the centre of the area that a pixel covers.

    Args:
        title: name of the region.
        note: short text about the prediction's quality.
        pixels: pixels and true classes of the region.
        predicted: predicted class of each pixel, uint8 ``[h, w]``.
    """
    height, width = pixels.targets.shape
    scale = _SIDE / max(height, width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    rgb = Image.fromarray(pixels.rgb).resize((cols, rows), Image.Resampling.BOX)
    y, x = (
        ((np.arange(n) + 0.5) * length / n).astype(int)
        for n, length in ((rows, height), (cols, width))
    )
    return Sample(
        title, note, np.asarray(rgb), pixels.targets[np.ix_(y, x)], predicted[np.ix_(y, x)]
    )


def draw_gallery(samples: Sequence[Sample], classes: Sequence[ClassInfo]) -> bytes:
    """Draw the gallery, two regions in a row, with a legend of the visible classes below.

    Args:
        samples: the regions.
        classes: classes with their names and colours.

    Returns:
        A PNG.
    """
    columns = min(2, len(samples))
    width = columns * (3 * _SIDE + 4 * _GAP) + (columns - 1) * _GAP
    heights = [
        max(s.rgb.shape[0] for s in samples[k : k + 2]) + 2 * _LINE + _GAP
        for k in range(0, len(samples), 2)
    ]
    entries = _legend(samples, classes)
    per_row = max(1, width // 200)
    bottom = sum(heights) + _GAP
    page = Image.new("RGB", (width, bottom + _LINE * -(-len(entries) // per_row) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    palette = _palette(classes)
    for k, one in enumerate(samples):
        x, y = (k % 2) * (3 * _SIDE + 5 * _GAP) + _GAP, sum(heights[: k // 2]) + _GAP
        _draw_sample(page, draw, one, palette, x, y)
    for k, (name, color) in enumerate(entries):
        x, y = _GAP + k % per_row * 200, bottom + k // per_row * _LINE
        draw.rectangle((x, y + 2, x + _SWATCH, y + 2 + _SWATCH), fill=color, outline=_SOFT)
        draw.text((x + _SWATCH + 6, y), _fit(name, 170), _INK, _font())
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()


def _draw_sample(
    page: Image.Image, draw: ImageDraw.ImageDraw, one: Sample, palette: UInt8, x: int, y: int
) -> None:
    """Draw title and note, and below them the three pictures with their names."""
    note_px = round(_font().getlength(one.note))
    draw.text((x, y), _fit(one.title, 3 * _SIDE - note_px), _INK, _font())
    draw.text((x + 3 * _SIDE + 2 * _GAP - note_px, y), one.note, _SOFT, _font())
    pictures = {"image": one.rgb, "truth": palette[one.truth], "prediction": palette[one.predicted]}
    for k, (name, pixels) in enumerate(pictures.items()):
        left, top = x + k * (_SIDE + _GAP), y + _LINE
        page.paste(Image.fromarray(pixels), (left, top))
        draw.rectangle(
            (left - 1, top - 1, left + pixels.shape[1], top + pixels.shape[0]), outline=_UNKNOWN
        )
        draw.text((left, top + pixels.shape[0] + 2), name, _SOFT, _font())


def _palette(classes: Sequence[ClassInfo]) -> UInt8:
    """Colour of each class value, uint8 ``[256, 3]``."""
    palette = np.full((256, 3), _UNKNOWN, np.uint8)
    palette[: len(classes)] = [info.color for info in classes]
    return palette


def _legend(
    samples: Sequence[Sample], classes: Sequence[ClassInfo]
) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of the classes that the samples show."""
    seen = {
        int(value)
        for one in samples
        for values in (one.truth, one.predicted)
        for value in np.unique(values)
    }
    entries = [(info.name, info.color) for k, info in enumerate(classes) if k in seen]
    return [*entries, (_NOT_SCORED, _UNKNOWN)] if IGNORED in seen else entries


def _fit(text: str, width_px: int) -> str:
    """Shorten a text to its end, after three dots: names of regions differ at their ends."""
    if _font().getlength(text) <= width_px:
        return text
    font = _font()
    start = bisect_left(
        range(1, len(text)), True, key=lambda k: font.getlength("..." + text[k:]) <= width_px
    )
    return "..." + text[1 + start :]


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which every machine has."""
    return ImageFont.load_default(_TEXT)
