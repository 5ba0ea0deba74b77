"""Where there is tissue on a slide, from a thumbnail at about 8 um/px, in a few seconds for the
largest ones.

Three kinds of evidence, any of which is enough: optical density against the slide's own glass,
colour (the spread of the three densities: stain has one, a shadow has none), and local texture,
which pale and fatty tissue has and glass has not. Otsu's thresholds divide density and colour, but
only within bounds that glass and stain set: noise on an empty slide is never divided, and a slide
full of tissue is kept whole. Ink, black borders and dust are taken out.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import scipy  # like scikit-image it imports its parts when they are used: settings come from here, and need none
import skimage

from noctile.pipeline.geometry import Box, Frame

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
_Image = TypeVar("_Image", UInt8, Float32)

OD_BOUNDS = (0.06, 0.12)
"""Otsu's threshold on optical density is kept in here: shadows and noise of glass stay below,
cytoplasm lies above."""

CHROMA_BOUNDS = (0.012, 0.025, 0.06)
"""Otsu's threshold on the spread of the densities of R, G and B lies between the second and the
third, where weak eosin begins; from the first up where this slide's glass is that clean: twice what
95 % of it stays below."""

TEXTURE_BOUNDS = (2.5, 4.5)
"""Deviation of grey levels (0..255) that counts as texture: 4 x the glass's own, within these."""

GLASS_TEXTURE = 4.0
"""Glass deviates less."""

GREY = 0.35
"""Colour / density below which something is grey; dust has 0.07 to 0.27, tissue 0.59 and more.
(measured on CAMELYON's overview; BCSS regions and CAMELYON tiles)"""

LIT, LIT_SHARE = 40, 0.02
"""Of a bright field at least this share lets this much through in every channel (0..255): all but a
thousandth of H&E does, fluorescence does nowhere, however bright. (measured: 49 and more; 0)"""

SMOOTH_UM, TEXTURE_UM, CLOSE_UM = 8.0, 40.0, 48.0
"""Evidence is smoothed over a pixel, texture is judged over a few cells, gaps of half a fat cell
are closed (um)."""

INK_MIN_MM2, INK_FRINGE_UM = 0.004, 8.0
"""Ink is a stroke, not a speck; around it lies a fringe that is neither ink nor tissue."""

PEN_MIN_MM2 = 0.05
"""Ink of a pen has a piece as large as this (mm2): a fine one is 0.3 mm wide. (measured: 0.007 for
the largest black speck on CAMELYON's overview, which has no pen; 0.09 for the largest stroke on the
sample slide)"""

BORDER_SHARE = 0.5
"""What is black along so much of an edge of the slide is its border and not a pen's."""

ALARM_SHARES = (0.001, 0.95)
"""Tissue that covers less or more of the slide than this is flagged: a missed background shows so.
"""

_DEFAULT_GLASS = 243.0
SPECK = 0.05
"""Less of an image than this share is a speck: a tile of 128 um has 0.016 mm2, less than the least
piece on a slide."""

_STRIP_PX = 2**15
"""So many pixels are looked at at once: what is computed of them stays in a core's cache."""


@dataclass(frozen=True, slots=True)
class TissueSpec:
    """What counts as tissue.

    Attributes:
        mpp: pixel size of the thumbnail (um): a gland is a few pixels, the largest slide a few
            megapixels.
        min_area_mm2: smaller pieces are dust (mm2); 0.02 is a disc of 0.16 mm, less than any biopsy
            core is wide.
        max_hole_mm2: smaller holes belong to the tissue around them (mm2); 0.05 is a duct or vessel
            of 0.25 mm.
    """

    mpp: float = 8.0
    min_area_mm2: float = 0.02
    max_hole_mm2: float = 0.05

    def within(self, frame: Frame) -> "TissueSpec":
        """The same for a small image: there, a speck is what is below `SPECK` of the image."""
        most_mm2 = SPECK * frame.area_mm2
        return replace(
            self,
            min_area_mm2=min(self.min_area_mm2, most_mm2),
            max_hole_mm2=min(self.max_hole_mm2, most_mm2),
        )


@dataclass(frozen=True, slots=True, eq=False)
class TissueMask:
    """Where there is tissue.

    Attributes:
        mask: bool ``[h, w]``.
        frame: of the mask.
        rule: which thresholds made it.
        flags: what to know before trusting it: ``no_tissue``, ``little_tissue``,
            ``almost_all_tissue``, ``pen_marks``, ``not_h_and_e``, ``tissue_mostly_rejected``.
    """

    mask: Bool
    frame: Frame
    rule: str
    flags: tuple[str, ...]

    @property
    def area_mm2(self) -> float:
        """Its area (mm2)."""
        return float(np.count_nonzero(self.mask)) * self.frame.pixel_area_mm2

    @property
    def width_mm(self) -> float:
        """The longer side of the box around all tissue (mm)."""
        sides = (
            np.ptp(np.flatnonzero(self.mask.any(axis=1 - axis))) + 1 if self.mask.any() else 0
            for axis in (0, 1)
        )
        return (
            max(
                float(n) * mpp
                for n, mpp in zip(sides, (self.frame.mpp_y, self.frame.mpp_x), strict=True)
            )
            / 1000
        )

    def on(self, box: Box, frame: Frame) -> Bool:
        """The mask under the pixels of a box in another frame: a pixel is tissue if its centre is.

        Returns:
            bool ``[box.height, box.width]``; False outside the slide.
        """
        rows, ys = _under(box.y, box.y_stop, frame.mpp_y / self.frame.mpp_y, self.mask.shape[0])
        cols, xs = _under(box.x, box.x_stop, frame.mpp_x / self.frame.mpp_x, self.mask.shape[1])
        if not (len(ys) and len(xs)):
            return np.zeros((box.height, box.width), np.bool_)
        few = self.mask[ys[0] : ys[-1] + 1].take(
            xs, axis=1
        )  # columns first: the rows are copied whole
        under: Bool = few.take(ys - ys[0], axis=0)
        if under.shape == (box.height, box.width):
            return under
        out = np.zeros((box.height, box.width), np.bool_)
        out[rows, cols] = under
        return out


def _under(start: int, stop: int, ratio: float, length: int) -> tuple[slice, npt.NDArray[np.int64]]:
    """Which of the pixels ``start..stop`` have their centres over a mask's axis, and over which of
    its pixels.
    """
    index = np.floor((np.arange(start, stop) + 0.5) * ratio).astype(np.int64)
    inside = slice(int(np.searchsorted(index, 0)), int(np.searchsorted(index, length)))
    return inside, index[inside]


def find_tissue(thumbnail: UInt8, frame: Frame, spec: TissueSpec) -> TissueMask:
    """Find the tissue of a slide.

    Args:
        thumbnail: uint8 ``[h, w, 3]``, RGB, at about ``spec.mpp``; all lengths are physical, so any
            pixel size does.
        frame: of the thumbnail.
        spec: what counts as tissue.
    """
    spec = spec.within(frame)
    if np.mean(_strips(thumbnail, lambda rgb: _least(rgb) >= LIT)) < LIT_SHARE:
        nowhere = np.zeros(thumbnail.shape[:2], np.bool_)
        return TissueMask(nowhere, frame, "dark background", ("no_tissue", "not_h_and_e"))
    found, grey, densities, rule = _evidence(thumbnail, frame)
    ink, pen = _ink(thumbnail, densities, frame)
    candidate_mm2 = np.count_nonzero(found) * frame.pixel_area_mm2
    pieces = _close(found & ~ink, round(CLOSE_UM / 2 / frame.mpp)) & ~ink
    pieces = _without_grey(pieces, found & ~ink, grey)
    mask = _without_small(pieces, spec.min_area_mm2, frame)
    mask |= ~mask & ~ink & ~_without_small(~mask, spec.max_hole_mm2, frame)
    kept_mm2 = np.count_nonzero(mask) * frame.pixel_area_mm2
    share = kept_mm2 / frame.area_mm2
    flags = {
        "no_tissue": not kept_mm2,
        "little_tissue": 0 < share < ALARM_SHARES[0],
        "almost_all_tissue": share > ALARM_SHARES[1],
        "pen_marks": pen,
        "tissue_mostly_rejected": candidate_mm2 > 5 * spec.min_area_mm2
        and kept_mm2 < 0.1 * candidate_mm2,
    }
    return TissueMask(mask, frame, rule, tuple(name for name, raised in flags.items() if raised))


def _evidence(thumbnail: UInt8, frame: Frame) -> tuple[Bool, Bool, Float32, str]:
    """Where there is evidence of tissue; where what is dense is grey; `_densities`; the thresholds
    as words.
    """
    light = _strips(thumbnail, lambda rgb: _mean(rgb.astype(np.float32)))
    deviation = _deviation(light, frame)
    empty = (
        (light > 150)
        & (deviation < GLASS_TEXTURE)
        & _strips(thumbnail, lambda rgb: _spread(rgb) < 24)
    )
    del light
    seen = np.count_nonzero(empty) >= max(64, empty.size // 500)
    levels = [np.median(thumbnail[..., k][empty]) if seen else _DEFAULT_GLASS for k in range(3)]
    densities = _densities(np.asarray(levels, np.float32))

    def smooth(of: Callable[[Float32], Float32]) -> Float32:
        evidence = _strips(thumbnail, lambda rgb: of(_density(rgb, densities)))
        return np.asarray(
            scipy.ndimage.gaussian_filter(evidence, SMOOTH_UM / frame.mpp, output=evidence)
        )

    def coloured() -> tuple[Float32, float]:
        chroma = smooth(_spread)
        low, high, most = CHROMA_BOUNDS
        if seen:  # as low as this glass allows
            high = float(np.clip(2 * np.quantile(chroma[empty], 0.95), low, high))
        return chroma, _otsu(chroma, (high, most))

    with ThreadPoolExecutor(
        1
    ) as beside:  # what is dense and what is coloured take half of the time of all of this
        by_colour = beside.submit(coloured)
        of_glass = np.median(deviation[empty]) if seen else np.inf
        deviation_min = float(np.clip(4 * of_glass, *TEXTURE_BOUNDS))
        # an edge deviates half a window to either side of it: what is left after as much erosion is
        # texture
        texture = scipy.ndimage.binary_erosion(
            deviation > deviation_min, None, _window(frame) // 2, border_value=1
        )
        del deviation
        density = smooth(_mean)
        od_min = _otsu(density, OD_BOUNDS)
        chroma, chroma_min = by_colour.result()
    found = (density > od_min) | (chroma > chroma_min) | texture
    rule = f"density > {od_min:.3f} or colour > {chroma_min:.3f} or texture > {deviation_min:.1f}"
    return found, chroma < GREY * density, densities, rule


def _without_grey(pieces: Bool, found: Bool, grey: Bool) -> Bool:
    """The pieces without those most of whose evidence is grey: dust, bubbles and their shadows have
    no stain.
    """
    number, n = scipy.ndimage.label(pieces)
    share = np.bincount(number[found & grey], minlength=n + 1) / np.maximum(
        1, np.bincount(number[found], minlength=n + 1)
    )
    keep = share < 0.5
    keep[0] = False
    return np.asarray(keep[number])


def _ink(thumbnail: UInt8, densities: Float32, frame: Frame) -> tuple[Bool, bool]:
    """Strokes of a pen, black borders and specks, with their fringe; whether a pen was among them."""
    inky = _strips(thumbnail, lambda rgb: _inky(_density(rgb, densities)))
    if not inky.any():
        return inky, False
    strokes = _without_small(
        scipy.ndimage.binary_opening(scipy.ndimage.binary_closing(inky)), INK_MIN_MM2, frame
    )
    if not strokes.any():
        return strokes, False
    grown: Bool = scipy.ndimage.binary_dilation(
        strokes, iterations=max(1, round(INK_FRINGE_UM / frame.mpp))
    )
    return grown, _has_pen(
        strokes, _strips(thumbnail, lambda rgb: _black(_density(rgb, densities))), frame
    )


def _has_pen(strokes: Bool, black: Bool, frame: Frame) -> bool:
    """Whether a stroke is as large as a pen's, and no black border."""
    pieces, n = scipy.ndimage.label(strokes)
    sizes = np.bincount(pieces.ravel(), minlength=n + 1)
    sides = (
        pieces[:3],
        pieces[-3:],
        pieces[:, :3].T,
        pieces[:, -3:].T,
    )  # opening takes the outermost pixels away
    along = np.max(
        [np.bincount(side.max(axis=0), minlength=n + 1) / side.shape[1] for side in sides], axis=0
    )
    border = (along > BORDER_SHARE) & (np.bincount(pieces[black], minlength=n + 1) > sizes / 2)
    return bool((~border & (sizes * frame.pixel_area_mm2 >= PEN_MIN_MM2))[1:].any())


def _inky(density: Float32) -> Bool:
    """Densities that no mixture of haematoxylin and eosin has.

    Both stains are densest in green: haematoxylin about (0.65, 0.70, 0.29), eosin (0.07, 0.99,
    0.11) or, measured on slides, (0.22, 0.80, 0.56). (Ruifrok & Johnston 2001; Macenko et al. 2009)
    """
    r, g, b = density
    blue_or_green = (r > 0.3) & (r > 1.15 * g)
    red = (g > 0.6) & (r < 0.16 * g) & (b > 0.7 * g)
    return np.asarray(blue_or_green | red | _black(density))


def _black(density: Float32) -> Bool:
    """Dense and without colour."""
    return (_least(density) > 0.55) & (_spread(density) < 0.3 * _most(density))


def _densities(glass: Float32) -> Float32:
    """Optical density of each level of each channel against the glass, not below 0, ``[256, 3]``."""
    levels = np.arange(256, dtype=np.float32)[:, None]
    return np.asarray(np.maximum(np.log10((glass + 1) / (levels + 1)), 0), np.float32)


def _density(rgb: UInt8, densities: Float32) -> Float32:
    """Optical density of planes, by what `_densities` says of their levels."""
    return np.stack([densities[:, k].take(rgb[k]) for k in range(3)])


def _strips(image: UInt8, of: Callable[[UInt8], Any]) -> Any:
    """A function of each pixel alone, taken strip by strip.

    Args:
        image: ``[h, w, 3]``.
        of: takes uint8 ``[3, rows, w]``, for three planes are many times faster than channels side
            by side, and returns ``[rows, w]``.

    Returns:
        what it returns of the whole image, ``[h, w]``.
    """
    rows = max(1, _STRIP_PX // image.shape[1])
    strips = (image[y : y + rows] for y in range(0, image.shape[0], rows))
    return np.concatenate([of(np.ascontiguousarray(np.moveaxis(strip, -1, 0))) for strip in strips])


def _least(planes: _Image) -> _Image:
    """The smallest of each pixel's three channels."""
    return np.minimum(np.minimum(planes[0, ...], planes[1, ...]), planes[2, ...])


def _most(planes: _Image) -> _Image:
    """The largest of each pixel's three channels."""
    return np.maximum(np.maximum(planes[0, ...], planes[1, ...]), planes[2, ...])


def _spread(planes: _Image) -> _Image:
    """The largest less the smallest of each pixel's three channels."""
    return _most(planes) - _least(planes)


def _mean(planes: Float32) -> Float32:
    """The mean of each pixel's three channels."""
    return (planes[0, ...] + planes[1, ...] + planes[2, ...]) / np.float32(3)


def _deviation(grey: Float32, frame: Frame) -> Float32:
    """Standard deviation of grey levels around each pixel, float32 ``[h, w]``."""
    size = _window(frame)
    with ThreadPoolExecutor(2) as pool:
        mean, square = pool.map(
            lambda of: scipy.ndimage.uniform_filter(of, size), (grey, grey * grey)
        )
    square -= mean * mean
    return np.asarray(np.sqrt(np.maximum(square, 0, out=square), out=square))


def _window(frame: Frame) -> int:
    """Side of the window in which texture is judged (px), odd."""
    return max(3, round(TEXTURE_UM / frame.mpp) | 1)


def _otsu(values: Float32, bounds: tuple[float, float]) -> float:
    """Otsu's threshold (1979), kept within bounds."""
    clipped = np.minimum(values, 5 * bounds[1])
    if not np.ptp(clipped):
        return bounds[0]
    counts, edges = np.histogram(clipped, 256)  # skimage's own would copy the image
    found = skimage.filters.threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2))  # type: ignore[no-untyped-call]
    return float(np.clip(found, *bounds))


def _close(mask: Bool, radius: int) -> Bool:
    """Closing with a diamond; the slide's edge neither adds nor takes."""
    if radius < 1:
        return mask
    wide = np.pad(mask, radius, mode="edge")
    closed: Bool = scipy.ndimage.binary_closing(wide, iterations=radius)
    return (closed | wide)[radius:-radius, radius:-radius]


def _without_small(mask: Bool, least_mm2: float, frame: Frame) -> Bool:
    """The mask without pieces (4 neighbours) of less than an area."""
    pieces, n = scipy.ndimage.label(mask)
    keep = np.bincount(pieces.ravel(), minlength=n + 1) * frame.pixel_area_mm2 >= least_mm2
    keep[0] = False
    return np.asarray(keep[pieces])
