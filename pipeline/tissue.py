"""Tissue on a slide, found on a thumbnail at about 8 um/px.

The settings are `TissueSpec`; the thresholds are the constants below it. A pixel is taken for
tissue if one of three values is above its threshold:

* **optical density** against the slide's own glass;
* **colour**, the spread of the densities of red, green and blue: stain has one, a shadow has none;
* **texture**, the deviation of grey levels: pale and fatty tissue has it, glass has not.

Otsu's method sets the thresholds on density and colour, within bounds. So noise on an empty slide
is not divided into tissue and glass, and a slide full of tissue is kept whole. Then ink, black
borders and dust are left out, and small pieces and holes are removed. The largest slides take a few
seconds.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import scipy  # imports its parts when they are used, as skimage does: the settings need none
import skimage

from noctile.pipeline.arrays import Bool, Float32, UInt8
from noctile.pipeline.geometry import Frame
from noctile.pipeline.ink import find_ink
from noctile.pipeline.optical_density import (
    by_strips,
    density_of,
    density_table,
    mean,
    smallest,
    spread,
)
from noctile.pipeline.pieces import close_gaps, without_small
from noctile.pipeline.tissue_mask import TissueMask


@dataclass(frozen=True, slots=True)
class TissueSpec:
    """Settings of the tissue finder; the table ``[tissue]`` of a settings file.

    Attributes:
        mpp: pixel size of the thumbnail (um). At 8 um a gland is a few pixels, and the largest
            slide a few megapixels.
        min_area_mm2: smallest piece of tissue (mm2); smaller ones are taken for dust. 0.02 is a
            disc of 0.16 mm, which is less than the width of any biopsy core.
        max_hole_mm2: largest hole that is filled (mm2); larger ones stay. 0.05 is a duct or vessel
            of 0.25 mm.
    """

    mpp: float = 8.0
    min_area_mm2: float = 0.02
    max_hole_mm2: float = 0.05

    def for_image(self, frame: Frame) -> "TissueSpec":
        """Return the settings for an image, with both areas at most `SMALL_SHARE` of it."""
        most_mm2 = SMALL_SHARE * frame.area_mm2
        return replace(
            self,
            min_area_mm2=min(self.min_area_mm2, most_mm2),
            max_hole_mm2=min(self.max_hole_mm2, most_mm2),
        )


OD_BOUNDS = (0.06, 0.12)
"""Lower and upper bound of Otsu's threshold on optical density.

Shadows and the noise of glass lie below, cytoplasm lies above.
"""

CHROMA_BOUNDS = (0.012, 0.025, 0.06)
"""Bounds of Otsu's threshold on colour, the spread of the optical densities of R, G and B.

(lowest, low, high): the threshold is kept within low..high; there weak eosin begins. If the glass
has little colour, low drops to twice the 95 % quantile of the glass's colour, but never below
lowest.
"""

TEXTURE_BOUNDS = (2.5, 4.5)
"""Lower and upper bound of the threshold on texture, a standard deviation of grey levels (0..255).

The threshold is 4 times the deviation of the slide's own glass.
"""

GLASS_TEXTURE = 4.0
"""Upper bound of the deviation of grey levels (0..255) on glass."""

GREY = 0.35
"""Ratio of colour to optical density below which a pixel is grey, as dust is.

Measured: dust on the overview of a CAMELYON slide has 0.07 to 0.27, tissue of BCSS regions and
CAMELYON tiles 0.59 and more.
"""

LIT_LEVEL = 40
"""Level (0..255) that a lit pixel reaches in every channel."""

LIT_SHARE = 0.02
"""Share of lit pixels below which a slide has a dark background: flag ``not_h_and_e``.

Measured: on H&E 99.9 % of the pixels have a level of 49 or more; on fluorescence no pixel is lit,
however bright it is.
"""

SMOOTH_UM = 8.0
"""Standard deviation of the filter that smooths density and colour (um): one pixel."""

TEXTURE_UM = 40.0
"""Side of the window in which texture is measured (um): a few cells."""

CLOSE_UM = 48.0
"""Width of the gaps between pieces that are closed (um): half a fat cell."""

MIN_KEPT_SHARE = 0.1
"""Smallest share of the pixels that looked like tissue that must be kept (0..1); a slide that keeps
less gets the flag ``tissue_mostly_rejected``. A rule, not a measurement."""

REJECTION_PIECES = 5
"""That flag is judged only if the area that looked like tissue is larger than this number times
``min_area_mm2``; a smaller area is specks."""

ALARM_SHARES = (0.001, 0.95)
"""Shares of the slide's area, a rule and no measurement: tissue that covers less raises the flag
``little_tissue``, tissue that covers more raises ``almost_all_tissue``. So a background that was
missed shows.
"""

SMALL_SHARE = 0.05
"""Share of an image below which a piece is small, whatever its area.

A tile of 128 um has 0.016 mm2, which is less than the smallest piece on a slide.
"""

_DEFAULT_GLASS = 243.0
"""Level of each channel (0..255) that is taken for glass where a slide shows none."""


def find_tissue(thumbnail: UInt8, frame: Frame, spec: TissueSpec) -> TissueMask:
    """Find the tissue of a slide.

    Args:
        thumbnail: uint8 ``[h, w, 3]``, RGB, at about ``spec.mpp``. All lengths are physical, so
            other pixel sizes work too.
        frame: frame of the thumbnail.
        spec: settings.
    """
    spec = spec.for_image(frame)
    if _dark(thumbnail):
        nothing = np.zeros(thumbnail.shape[:2], np.bool_)
        return TissueMask(nothing, frame, "dark background", ("no_tissue", "not_h_and_e"))
    evidence = _evidence(thumbnail, frame)
    ink, pen = find_ink(thumbnail, evidence.density_table, frame)
    found = evidence.found & ~ink
    pieces = close_gaps(found, round(CLOSE_UM / 2 / frame.mpp)) & ~ink
    pieces = _without_grey(pieces, found, evidence.grey)
    mask = without_small(pieces, spec.min_area_mm2, frame)
    mask |= ~mask & ~ink & ~without_small(~mask, spec.max_hole_mm2, frame)
    evidence_mm2, kept_mm2 = (
        np.count_nonzero(pixels) * frame.pixel_area_mm2 for pixels in (evidence.found, mask)
    )
    judged = evidence_mm2 > REJECTION_PIECES * spec.min_area_mm2
    rejected = bool(judged and kept_mm2 < MIN_KEPT_SHARE * evidence_mm2)
    flags = _flags(kept_mm2 / frame.area_mm2, pen, rejected)
    return TissueMask(mask, frame, evidence.rule, flags)


def _dark(thumbnail: UInt8) -> bool:
    """Tell if a slide has a dark background, as fluorescence has."""
    lit = by_strips(thumbnail, lambda planes: smallest(planes) >= LIT_LEVEL)
    return bool(np.mean(lit) < LIT_SHARE)


def _flags(share: float, pen: bool, rejected: bool) -> tuple[str, ...]:
    """Return the flags of a tissue mask, in a fixed order.

    Args:
        share: tissue as a share of the slide, 0..1.
        pen: True if there are marks of a pen.
        rejected: True if most of what looked like tissue was left out.
    """
    flags = {
        "no_tissue": not share,
        "little_tissue": 0 < share < ALARM_SHARES[0],
        "almost_all_tissue": share > ALARM_SHARES[1],
        "pen_marks": pen,
        "tissue_mostly_rejected": rejected,
    }
    return tuple(name for name, raised in flags.items() if raised)


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """Evidence of tissue on a thumbnail.

    Attributes:
        found: bool ``[h, w]``, True where a value is above its threshold.
        grey: bool ``[h, w]``, True where there is little colour for the density.
        density_table: float32 ``[256, 3]``, optical density of each level of each channel.
        rule: thresholds, as text.
    """

    found: Bool
    grey: Bool
    density_table: Float32
    rule: str


def _evidence(thumbnail: UInt8, frame: Frame) -> _Evidence:
    light = by_strips(thumbnail, lambda planes: mean(planes.astype(np.float32)))
    deviation = _deviation(light, frame)
    glass = _glass(thumbnail, light, deviation)
    del light
    table = density_table(_glass_levels(thumbnail, glass))
    with ThreadPoolExecutor(1) as pool:  # density and colour take half of all the time each
        colour = pool.submit(_colour, thumbnail, table, frame, glass)
        texture, texture_min = _texture(deviation, frame, glass)
        del deviation
        density = _smooth(thumbnail, table, mean, frame)
        od_min = _otsu(density, OD_BOUNDS)
        chroma, chroma_min = colour.result()
    found = (density > od_min) | (chroma > chroma_min) | texture
    rule = f"density > {od_min:.3f} or colour > {chroma_min:.3f} or texture > {texture_min:.1f}"
    return _Evidence(found, chroma < GREY * density, table, rule)


def _glass(thumbnail: UInt8, light: Float32, deviation: Float32) -> Bool | None:
    """Find empty glass: light, smooth and without colour.

    Args:
        thumbnail: uint8 ``[h, w, 3]``.
        light: float32 ``[h, w]``, mean of the channels (0..255).
        deviation: float32 ``[h, w]``, standard deviation of ``light`` around each pixel.

    Returns:
        bool ``[h, w]``, or None if there is too little glass to measure it.
    """
    grey = by_strips(thumbnail, lambda planes: spread(planes) < 24)
    glass: Bool = (light > 150) & (deviation < GLASS_TEXTURE) & grey
    return glass if np.count_nonzero(glass) >= max(64, glass.size // 500) else None


def _glass_levels(thumbnail: UInt8, glass: Bool | None) -> Float32:
    """Return the median level (0..255) of each channel on glass, float32 ``[3]``."""
    levels = [
        _DEFAULT_GLASS if glass is None else np.median(thumbnail[..., k][glass]) for k in range(3)
    ]
    return np.asarray(levels, np.float32)


def _smooth(
    thumbnail: UInt8, table: Float32, value: Callable[[Float32], Float32], frame: Frame
) -> Float32:
    """Return a value of each pixel's three optical densities, smoothed, float32 ``[h, w]``."""
    values = by_strips(thumbnail, lambda planes: value(density_of(planes, table)))
    sigma_px = SMOOTH_UM / frame.mpp
    return np.asarray(scipy.ndimage.gaussian_filter(values, sigma_px, output=values))


def _colour(
    thumbnail: UInt8, table: Float32, frame: Frame, glass: Bool | None
) -> tuple[Float32, float]:
    """Return the colour of each pixel, float32 ``[h, w]``, and its threshold."""
    chroma = _smooth(thumbnail, table, spread, frame)
    lowest, low, high = CHROMA_BOUNDS
    if glass is not None:
        low = float(np.clip(2 * np.quantile(chroma[glass], 0.95), lowest, low))
    return chroma, _otsu(chroma, (low, high))


def _texture(deviation: Float32, frame: Frame, glass: Bool | None) -> tuple[Bool, float]:
    """Return the pixels with texture, bool ``[h, w]``, and the threshold on the deviation.

    A mere edge deviates half a window to both sides, so half a window is eroded.
    """
    of_glass = np.inf if glass is None else np.median(deviation[glass])
    least = float(np.clip(4 * of_glass, *TEXTURE_BOUNDS))
    eroded_px = _window_px(frame) // 2
    texture = scipy.ndimage.binary_erosion(deviation > least, None, eroded_px, border_value=1)
    return texture, least


def _without_grey(pieces: Bool, found: Bool, grey: Bool) -> Bool:
    """Remove pieces most of whose evidence is grey: dust, bubbles and their shadows have no stain.

    Args:
        pieces: bool ``[h, w]``, candidates for tissue.
        found: bool ``[h, w]``, evidence of tissue.
        grey: bool ``[h, w]``, pixels with little colour for their density.
    """
    number, n = scipy.ndimage.label(pieces)
    share = np.bincount(number[found & grey], minlength=n + 1) / np.maximum(
        1, np.bincount(number[found], minlength=n + 1)
    )
    keep = share < 0.5
    keep[0] = False
    return np.asarray(keep[number])


def _deviation(grey: Float32, frame: Frame) -> Float32:
    """Return the standard deviation of grey levels around each pixel, float32 ``[h, w]``."""
    size = _window_px(frame)
    with ThreadPoolExecutor(2) as pool:
        around, square = pool.map(
            lambda values: scipy.ndimage.uniform_filter(values, size), (grey, grey * grey)
        )
    square -= around * around
    return np.asarray(np.sqrt(np.maximum(square, 0, out=square), out=square))


def _window_px(frame: Frame) -> int:
    """Return the side of the window in which texture is measured (px), an odd number."""
    return max(3, round(TEXTURE_UM / frame.mpp) | 1)


def _otsu(values: Float32, bounds: tuple[float, float]) -> float:
    """Return Otsu's threshold (1979), kept within bounds."""
    clipped = np.minimum(values, 5 * bounds[1])
    if not np.ptp(clipped):
        return bounds[0]
    counts, edges = np.histogram(clipped, 256)  # skimage's own histogram would copy the image
    histogram = (counts, (edges[:-1] + edges[1:]) / 2)
    found = skimage.filters.threshold_otsu(hist=histogram)  # type: ignore[no-untyped-call]
    return float(np.clip(found, *bounds))
