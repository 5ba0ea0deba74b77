"""Where the tissue is: a mask from a thumbnail, the evidence for it, and what was left out of it and why.

A thumbnail is weighed at about 8 um/px. The shade of the empty glass is estimated from flat, light cells and divided
out; what is left is optical density. Tissue is what absorbs, in colour (Otsu on saturation) or heavily (Otsu on
density), or is finely structured (texture: the thin walls of fat, pale mucosa). Ink, black borders and grey dust are
told apart by how the three channels absorb, since H&E always takes most from green. All sizes are in um or mm2.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from pipeline.geometry import Box, Extent, Frame

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

_SMOOTH_UM = 8.0
"""Sigma of the Gaussian before any colour is computed (um): JPEG noise goes, a wall of fat stays."""

_CELL_UM = 128.0
"""Side of the cells in which glass is looked for (um): larger than a JPEG block of 8 px at 16 um/px."""

_GLASS_MIN, _GLASS_CHROMA = 150.0, 0.12
"""Glass is at least this light in its darkest channel (0..255) and its channels differ by less than this share."""

_GLASS_HUE = 0.012
"""How far a cell's colour ratios may lie from the glass's; pale tissue at 15 % of its stain is 0.03 away."""

_SATURATION_OD = (0.015, 0.030)
"""Bounds of Otsu's threshold on saturation (OD). Below: noise of glass. Above: 15 % of a weak H&E stain (0.2)."""

_DENSITY_OD = (0.08, 0.12)
"""Bounds of Otsu's threshold on density (OD): shading of glass stays below, the palest solid tissue lies above."""

_TEXTURE_UM, _TEXTURE_OD = 40.0, 0.006
"""Window (um) and least standard deviation (OD) of what counts as structured; walls of fat give 0.01 and more."""

_NOISE_SIGMAS = 4.0
"""A threshold lies at least so many standard deviations above what empty glass shows."""

_GREY = 0.35
"""Saturation over density of dust, shadows and bubbles is below this (0.07..0.27 on CAMELYON), of H&E above 0.5."""

_INK_UM, _INK_RIM_UM = 100.0, 120.0
"""A stroke of a pen has a solid core this wide (um), and fades into the glass within the second (um)."""

_BLACK = 50
"""Nothing that light passes is this dark in its lightest channel (0..255): borders, black background, black ink."""

_BRIGHT_FIELD_MIN, _BRIGHT_FIELD_LIGHT, _BRIGHT_FIELD_CHROMA = 40, 120, 15
"""H&E at 8 um/px lets this much through in each channel (0..255; measured: 48), and is light or coloured."""

_BORDER_SHARE = 0.05
"""Something black along this share of the frame's edge is a border of the scan, otherwise it is ink."""

_STRIP_ROWS = 256
"""Rows that are held as float at once."""


@dataclass(frozen=True, slots=True)
class TissueSpec:
    """How tissue is found. The defaults are meant for H&E sections and biopsies from any scanner.

    Attributes:
        mpp: pixel size at which evidence is weighed (um). 8 keeps a 0.2 mm core biopsy 25 px wide, and a whole slide
            small; finer thumbnails are averaged down to it, coarser ones are used as they are.
        min_area_mm2: smaller pieces are dropped. 0.02 keeps the smallest useful biopsy fragment (160 um across).
        max_hole_mm2: smaller holes are filled. 0.05 (250 um across) fills fat cells, small vessels and ducts; a larger
            opening is glass.
        lacuna_um: gaps up to this width between pieces of evidence are closed; fat cells measure 50 to 150 um.
        pen_flag_mm2: rejected ink beyond this area is flagged; 0.1 is a stroke of 0.3 mm, far less than any pen's.

    Raises:
        ValueError: if a size is negative or ``mpp`` is not positive.
    """

    mpp: float = 8.0
    min_area_mm2: float = 0.02
    max_hole_mm2: float = 0.05
    lacuna_um: float = 150.0
    pen_flag_mm2: float = 0.1

    def __post_init__(self) -> None:
        if self.mpp <= 0 or min(self.min_area_mm2, self.max_hole_mm2, self.lacuna_um, self.pen_flag_mm2) < 0:
            raise ValueError(f"sizes cannot be negative, and mpp must be positive: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class TissueMask:
    """Which part of a slide is tissue.

    Attributes:
        mask: bool ``[h, w]``, true where there is tissue.
        frame: of the mask.
        rule: which evidence found it, for people to read: ``"otsu(saturation)|texture"``.
        flags: what a person should look at: ``not_h_and_e``, ``no_tissue``, ``little_tissue`` (< 0.1 % of the frame),
            ``almost_all_tissue`` (> 95 %), ``pen_marks``, ``tissue_mostly_rejected`` (> 90 % of what looked like tissue
            was taken away by the other rules).
        pen_mm2: area taken for ink (mm2).

    Raises:
        ValueError: if mask and frame differ in size.
    """

    mask: Bool
    frame: Frame
    rule: str
    flags: tuple[str, ...] = ()
    pen_mm2: float = 0.0

    def __post_init__(self) -> None:
        if self.mask.shape != (self.frame.extent.height, self.frame.extent.width):
            raise ValueError(f"a mask of shape {self.mask.shape} does not fill {self.frame.extent}")

    @property
    def area_mm2(self) -> float:
        """Area of tissue (mm2)."""
        return int(np.count_nonzero(self.mask)) * self.frame.pixel_area_mm2

    @property
    def fraction(self) -> float:
        """Share of the frame that is tissue (0..1)."""
        return int(np.count_nonzero(self.mask)) / max(1, self.mask.size)

    @property
    def width_mm(self) -> float:
        """The longer side of `bounding_box` (mm); 0 without tissue. More than a glass slide's 75 mm cannot be."""
        box = self.bounding_box()
        return 0.0 if box is None else max(box.height * self.frame.mpp_y, box.width * self.frame.mpp_x) / 1000

    def bounding_box(self) -> Box | None:
        """The smallest box of `frame` that holds all tissue; None without tissue."""
        rows, cols = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not rows.size:
            return None
        y, x = int(rows[0]), int(cols[0])
        return Box(y, x, int(rows[-1]) + 1 - y, int(cols[-1]) + 1 - x)

    def on(self, box: Box, frame: Frame) -> Bool:
        """The mask as seen in another frame of the same slide: each pixel has the value under its centre.

        Args:
            box: in pixels of ``frame``; may reach outside it.
            frame: the resolution asked for; it shares its top left corner with the mask's.

        Returns:
            bool ``[box.height, box.width]``, false outside the mask. A pixel does not depend on the box.
        """
        height, width = self.mask.shape
        rows, rows_in = _under(box.y, box.height, frame.mpp_y / self.frame.mpp_y, height)
        cols, cols_in = _under(box.x, box.width, frame.mpp_x / self.frame.mpp_x, width)
        out = np.zeros((box.height, box.width), np.bool_)
        if rows.size and cols.size:
            out[rows_in, cols_in] = self.mask[rows].take(cols, axis=1)
        return out


def find_tissue(thumbnail: UInt8, frame: Frame, spec: TissueSpec | None = None) -> TissueMask:
    """Find tissue on a thumbnail of a bright-field slide.

    Args:
        thumbnail: uint8 ``[h, w, 3]``, RGB, area-averaged, at 2 to 32 um/px (best: ``spec.mpp``).
        frame: of the thumbnail.
        spec: how to find it; the defaults if None.

    Returns:
        The mask in ``frame``. Without tissue it is empty and flagged, never an error.

    Raises:
        ValueError: if the thumbnail is not uint8 RGB of the frame's size.
    """
    spec = spec or TissueSpec()
    if thumbnail.dtype != np.uint8 or thumbnail.shape != (frame.extent.height, frame.extent.width, 3):
        raise ValueError(f"a thumbnail is uint8 RGB of {frame.extent}, not {thumbnail.dtype} {thumbnail.shape}")
    if not thumbnail.size:
        return TissueMask(np.zeros(thumbnail.shape[:2], np.bool_), frame, "empty thumbnail", ("no_tissue",))
    factor = tuple(max(1, math.floor(spec.mpp / mpp + 0.02)) for mpp in (frame.mpp_y, frame.mpp_x))
    if factor == (1, 1):
        return _weigh(thumbnail, frame, spec)
    small = _averaged(thumbnail, *factor)
    found = _weigh(
        small, Frame(Extent(*small.shape[:2]), frame.mpp_y * factor[0], frame.mpp_x * factor[1]), spec
    )
    return TissueMask(found.on(frame.box, frame), frame, found.rule, found.flags, found.pen_mm2)


def _weigh(rgb: UInt8, frame: Frame, spec: TissueSpec) -> TissueMask:
    """Evidence, less ink, borders and dust; then closed, filled and sieved."""
    if _is_dark(rgb):
        empty = np.zeros(rgb.shape[:2], np.bool_)
        return TissueMask(empty, frame, "dark background", ("not_h_and_e", "no_tissue"))
    glass = _find_glass(rgb, frame)
    planes = _absorb(rgb, frame, glass)
    ink, border = _find_ink(planes, frame)
    evidence, stain, rule = _evidence(planes, glass, ink | border, frame)
    candidate_mm2 = int(np.count_nonzero(evidence & ~border | ink)) * frame.pixel_area_mm2
    mask = _close(evidence, stain, spec.lacuna_um, frame) & ~ink & ~border
    _drop_grey(mask, stain, planes)
    _sieve(mask, frame, spec)
    found = TissueMask(mask, frame, rule, (), int(np.count_nonzero(ink)) * frame.pixel_area_mm2)
    return TissueMask(mask, frame, rule, _flags(found, candidate_mm2, spec), found.pen_mm2)


def _flags(found: TissueMask, candidate_mm2: float, spec: TissueSpec) -> tuple[str, ...]:
    """What a person should look at, always in the same order."""
    kept, fraction = found.area_mm2, found.fraction
    raised = {
        "no_tissue": kept == 0,
        "little_tissue": 0 < fraction < 0.001,
        "almost_all_tissue": fraction > 0.95,
        "pen_marks": found.pen_mm2 > spec.pen_flag_mm2,
        "tissue_mostly_rejected": candidate_mm2 >= spec.min_area_mm2 and kept < 0.1 * candidate_mm2,
    }
    return tuple(flag for flag, is_raised in raised.items() if is_raised)


# --- glass -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Glass:
    """What empty glass looks like.

    Attributes:
        hue: float ``[3]``, its colour, mean 1.
        shading: float ``[6]``, coefficients of a quadratic surface of its lightness (0..255).
        lightness: lowest and highest lightness seen (0..255); the surface is not believed beyond.
        cells: bool ``[h, w]`` at full size, where glass was seen; none seen: it is assumed.
    """

    hue: Float32
    shading: Float32
    lightness: tuple[float, float]
    cells: Bool

    def shade(self, rows: slice) -> Float32:
        """Colour of glass at some rows: float ``[rows, w, 3]`` (0..255)."""
        height, width = self.cells.shape
        y, x = (np.arange(rows.start, rows.stop) + 0.5) / height, (np.arange(width) + 0.5) / width
        light = (_quadratic(y[:, None], x[None, :]) @ self.shading).clip(*self.lightness)
        return (light[..., None] * self.hue).astype(np.float32)


def _quadratic(y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Float32:
    """Terms of a quadratic surface, ``[..., 6]``: vignetting and gradients, but never a piece of tissue."""
    y, x = np.broadcast_arrays(y, x)
    return np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=-1).astype(np.float32)


def _find_glass(rgb: UInt8, frame: Frame) -> _Glass:
    """Estimate the shade of empty glass from cells that are light, nearly neutral and flat."""
    height, width = rgb.shape[:2]
    n_y, n_x = (min(n, side) for n, side in zip(_px(_CELL_UM, frame), (height, width), strict=True))
    rows, cols = height // n_y, width // n_x
    cells = rgb[: rows * n_y, : cols * n_x].reshape(rows, n_y, cols, n_x, 3)
    mean = cells.mean(axis=(1, 3), dtype=np.float32)
    spread = np.sqrt(np.maximum(_mean_square(cells[..., 1]) - mean[..., 1] ** 2, 0))
    lowest, highest = mean.min(axis=-1), mean.max(axis=-1)
    light = (lowest >= _GLASS_MIN) & (highest - lowest <= _GLASS_CHROMA * highest)
    void = lowest == 255  # the reader's white outside the scan, or glass that the scanner saturates
    scanned = light & ~void
    flat = scanned & (spread <= 2 * np.percentile(spread[scanned], 10) + 1) if scanned.any() else scanned
    if np.count_nonzero(flat) < max(1, 0.002 * flat.size):
        return _assumed_glass(rgb, bool(void.any()))

    level = mean.mean(axis=-1)
    hue = mean / np.maximum(level, 1)[..., None]
    brightest = flat & (level >= np.percentile(level[flat], 80))
    glass_hue = np.median(hue[brightest], axis=0)
    glass_level = float(np.median(level[brightest]))
    kin = flat & (np.abs(hue - glass_hue).max(axis=-1) <= _GLASS_HUE) & (np.abs(level - glass_level) <= 40)
    where = np.argwhere(kin)
    y, x = (where[:, 0] + 0.5) * n_y / height, (where[:, 1] + 0.5) * n_x / width
    shading, kept = _fit_surface(y, x, level[kin])
    kin[kin] = kept
    full = np.zeros((height, width), np.bool_)
    full[: rows * n_y, : cols * n_x] = kin.repeat(n_y, axis=0).repeat(n_x, axis=1)
    return _Glass(
        glass_hue.astype(np.float32), shading, (float(level[kin].min()), float(level[kin].max())), full
    )


def _assumed_glass(rgb: UInt8, has_white: bool) -> _Glass:
    """Without empty glass in sight: neutral, and as light as the lightest channel of the picture."""
    level = 255.0 if has_white else float(np.percentile(rgb[::4, ::4].max(axis=-1), 99.9))
    level = max(level, _GLASS_MIN)
    shading = np.array([level, 0, 0, 0, 0, 0], np.float32)
    return _Glass(np.ones(3, np.float32), shading, (level, level), np.zeros(rgb.shape[:2], np.bool_))


def _mean_square(cells: UInt8) -> Float32:
    """Mean of squares over axes 1 and 3 of ``[rows, n, cols, n]``, one row of cells at a time."""
    return np.stack([(row.astype(np.float32) ** 2).mean(axis=(0, 2)) for row in cells])


def _fit_surface(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64], level: Float32
) -> tuple[Float32, Bool]:
    """Least squares, three rounds; cells that are darker than the surface by 3 sigma (pale tissue) are left out."""
    kept = np.ones(level.size, np.bool_)
    terms = _quadratic(y, x)
    shading = np.zeros(6, np.float32)
    for _ in range(3):
        shading = np.linalg.lstsq(terms[kept], level[kept], rcond=None)[0]
        residual = level - terms @ shading
        sigma = 1.4826 * float(np.median(np.abs(residual[kept])))
        kept = residual >= -max(3 * sigma, 1.0)
    return shading.astype(np.float32), kept


# --- evidence --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Planes:
    """What absorbs how, all ``[h, w]``.

    Attributes:
        density: float32, mean optical density of the three channels.
        saturation: float32, highest less lowest optical density of the three channels: grey has none.
        ink: bool, absorbs as only ink does.
        inky: bool, may be the faded rim of ink.
        black: bool, no light comes through.
    """

    density: Float32
    saturation: Float32
    ink: Bool
    inky: Bool
    black: Bool


def _absorb(rgb: UInt8, frame: Frame, glass: _Glass) -> _Planes:
    """Optical density against glass, in strips, from the lightly smoothed picture."""
    shape = rgb.shape[:2]
    density, saturation = np.empty(shape, np.float32), np.empty(shape, np.float32)
    ink, inky, black = (np.empty(shape, np.bool_) for _ in range(3))
    sigma = (_SMOOTH_UM / frame.mpp_y, _SMOOTH_UM / frame.mpp_x, 0)
    halo = math.ceil(4 * sigma[0]) + 1
    for rows, around in _strips(shape[0], halo):
        smooth = ndimage.gaussian_filter(rgb[around].astype(np.float32), sigma)
        smooth = smooth[rows.start - around.start : rows.stop - around.start]
        black[rows] = smooth.max(axis=-1) < _BLACK
        od = -np.log10(np.clip(smooth / glass.shade(rows), 1 / 255, 1))
        density[rows] = od.mean(axis=-1)
        saturation[rows] = od.max(axis=-1) - od.min(axis=-1)
        ink[rows], inky[rows] = _inks(od)
    return _Planes(density, saturation, ink, inky, black)


def _inks(od: Float32) -> tuple[Bool, Bool]:
    """Which pixels absorb as ink, and which as the faded rim of ink, from optical densities ``[h, w, 3]``.

    H&E takes most light from green: on BCSS, CAMELYON and CMU-1 red never exceeds green by more than 0.04 OD in 99 % of
    the tissue, and blue reaches 0.75 of green in 0.1 %. Blue and green ink take more from red than from green; red ink
    takes as much from blue as from green and leaves red alone; black ink takes the same from all.
    """
    red, green, blue = (od[..., c] for c in range(3))
    highest, lowest = od.max(axis=-1), od.min(axis=-1)
    cold = red - green
    ink = (cold > 0.12) & (highest - lowest > 0.2)
    ink |= (green > 0.6) & (blue > 0.75 * green) & (red < 0.3 * green)
    ink |= (lowest > 0.55) & (highest - lowest < 0.3 * highest)
    inky = cold > 0.02
    inky |= (blue > 0.75 * green) & (red < 0.4 * green)
    inky |= highest - lowest < 0.3 * highest
    return ink, ink | (inky & (highest > 0.02))


def _find_ink(planes: _Planes, frame: Frame) -> tuple[Bool, Bool]:
    """Pen strokes and black borders, with their rims.

    Ink is solid: of the pixels that absorb as ink, only those count that hold a square of `_INK_UM`. That is what
    keeps bluish nuclei, pigment and the dye on a resection margin, which are scattered or thin.
    """
    solid = _dilate(_erode(planes.ink | planes.black, _INK_UM / 2, frame), _INK_UM / 2, frame)
    marks = _dilate(solid, _INK_RIM_UM, frame) & planes.inky | solid
    labels, n = _label(marks & planes.black)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    on_rim = np.bincount(rim, minlength=n + 1) >= _BORDER_SHARE * rim.size
    on_rim[0] = False
    border = _dilate(on_rim[labels], _INK_RIM_UM, frame) & marks if on_rim.any() else np.zeros_like(marks)
    return marks & ~border, border


def _evidence(planes: _Planes, glass: _Glass, rejected: Bool, frame: Frame) -> tuple[Bool, Bool, str]:
    """What looks like tissue: all of it, the part that is stained, and which rules found any."""
    n_glass = max(1, int(np.count_nonzero(glass.cells)) // 100_000)
    quiet = planes.saturation[glass.cells][::n_glass]
    coloured = planes.saturation > _threshold(planes.saturation, quiet, rejected, _SATURATION_OD)
    quiet = planes.density[glass.cells][::n_glass]
    dense = planes.density > _threshold(planes.density, quiet, rejected, _DENSITY_OD)
    texture = _local_std(planes.density, frame)
    noise = _noise(texture[glass.cells][::n_glass])
    structured = texture > max(_TEXTURE_OD, noise)
    del texture
    structured &= ~_dilate(rejected, _TEXTURE_UM, frame)
    coloured &= ~rejected
    dense &= ~rejected
    rules = [
        name
        for name, found in (
            ("otsu(saturation)", coloured),
            ("otsu(density)", dense & ~coloured),
            ("texture", structured & ~coloured & ~dense),
        )
        if found.any()
    ]
    stain = coloured | dense
    return stain | structured, stain, "|".join(rules) or "nothing"


def _threshold(plane: Float32, quiet: Float32, rejected: Bool, bounds: tuple[float, float]) -> float:
    """Otsu within bounds, and above the noise of glass: never splits blank glass, never splits a slide full of tissue."""
    values = plane[::2, ::2][~rejected[::2, ::2]]
    counts, edges = np.histogram(values, bins=256, range=(0.0, 1.0))
    split = float(threshold_otsu(hist=(counts, (edges[:-1] + edges[1:]) / 2))) if np.count_nonzero(counts) > 1 else 0.0
    return max(min(max(split, bounds[0]), bounds[1]), _noise(quiet))


def _noise(quiet: Float32) -> float:
    """What empty glass may show by chance: its median and `_NOISE_SIGMAS` (0 without glass)."""
    if not quiet.size:
        return 0.0
    middle, upper = np.percentile(quiet, (50, 84))
    return float(middle + _NOISE_SIGMAS * (upper - middle))


def _local_std(plane: Float32, frame: Frame) -> Float32:
    """Standard deviation in a window of `_TEXTURE_UM`."""
    out = np.empty_like(plane)
    size = tuple(2 * (n // 2) + 1 for n in _px(_TEXTURE_UM, frame, 3))
    for rows, around in _strips(plane.shape[0], size[0]):
        strip = plane[around]
        inner = slice(rows.start - around.start, rows.stop - around.start)
        mean = ndimage.uniform_filter(strip, size)[inner]
        square = ndimage.uniform_filter(strip * strip, size)[inner]
        out[rows] = np.sqrt(np.maximum(square - mean * mean, 0))
    return out


# --- shape -----------------------------------------------------------------------------------------------------------


def _close(evidence: Bool, stain: Bool, lacuna_um: float, frame: Frame) -> Bool:
    """Close gaps up to ``lacuna_um``, and take back what the window of the texture added at the outside."""
    closed = _erode(_dilate(evidence, lacuna_um / 2, frame), (lacuna_um + _TEXTURE_UM) / 2, frame)
    return closed | stain


def _drop_grey(mask: Bool, stain: Bool, planes: _Planes) -> None:
    """Clear components whose stained part is grey: dust, bubbles, the edge of a cover slip."""
    labels, n = _label(mask)
    where = labels[mask]
    weight = np.where(stain[mask], 1.0, 0.05)
    density = np.bincount(where, planes.density[mask] * weight, n + 1)
    saturation = np.bincount(where, planes.saturation[mask] * weight, n + 1)
    grey = saturation < _GREY * density
    grey[0] = False
    mask[mask] = ~grey[where]


def _sieve(mask: Bool, frame: Frame, spec: TissueSpec) -> None:
    """Drop small pieces, then fill small holes. Pieces touch by sides or corners, holes by sides."""
    labels, n = _label(mask)
    small = np.bincount(labels.ravel(), minlength=n + 1) * frame.pixel_area_mm2 < spec.min_area_mm2
    mask &= ~small[labels]
    labels, n = ndimage.label(~mask)
    hole = np.bincount(labels.ravel(), minlength=n + 1) * frame.pixel_area_mm2 <= spec.max_hole_mm2
    hole[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    mask |= hole[labels]


def _label(mask: Bool) -> tuple[npt.NDArray[np.int32], int]:
    """8-connected components."""
    labels, n = ndimage.label(mask, np.ones((3, 3), np.bool_))
    return labels, int(n)


def _dilate(mask: Bool, reach_um: float, frame: Frame) -> Bool:
    """Grow by ``reach_um`` to each side (a square, so that it costs the same at any reach)."""
    out = mask.view(np.uint8)
    for axis, n in enumerate(_px(reach_um, frame, 0)):
        out = ndimage.maximum_filter1d(out, 2 * n + 1, axis, mode="nearest")
    return out.view(np.bool_)


def _erode(mask: Bool, reach_um: float, frame: Frame) -> Bool:
    """Shrink by ``reach_um`` from each side; the frame's edge is no side."""
    out = mask.view(np.uint8)
    for axis, n in enumerate(_px(reach_um, frame, 0)):
        out = ndimage.minimum_filter1d(out, 2 * n + 1, axis, mode="nearest")
    return out.view(np.bool_)


# --- small helpers ---------------------------------------------------------------------------------------------------


def _is_dark(rgb: UInt8) -> bool:
    """Whether the picture is no bright field: most of what is not black lacks a channel, or is a dim grey."""
    sample = rgb[::4, ::4]
    lowest, highest = sample.min(axis=-1), sample.max(axis=-1)
    lit = highest >= _BLACK
    coloured = highest - lowest >= _BRIGHT_FIELD_CHROMA
    like = (lowest >= _BRIGHT_FIELD_LIGHT) | (lowest >= _BRIGHT_FIELD_MIN) & coloured
    return int(np.count_nonzero(like & lit)) <= 0.5 * int(np.count_nonzero(lit))


def _px(length_um: float, frame: Frame, least: int = 1) -> tuple[int, int]:
    """A length in whole pixels along y and x, at least ``least``."""
    return max(least, round(length_um / frame.mpp_y)), max(least, round(length_um / frame.mpp_x))


def _strips(height: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Rows in strips: those to write, and those to read for them."""
    for y in range(0, height, _STRIP_ROWS):
        stop = min(y + _STRIP_ROWS, height)
        yield slice(y, stop), slice(max(0, y - halo), min(height, stop + halo))


def _under(start: int, n: int, ratio: float, size: int) -> tuple[npt.NDArray[np.intp], slice]:
    """For ``n`` pixels from ``start``: the mask's index under each centre, for those that have one, and which those are."""
    index = np.floor((np.arange(start, start + n) + 0.5) * ratio).astype(np.intp)
    first, stop = np.searchsorted(index, [0, size])
    return index[first:stop], slice(int(first), int(stop))


def _averaged(rgb: UInt8, factor_y: int, factor_x: int) -> UInt8:
    """Area average over whole pixels; what is left over at the bottom and right is averaged over what there is."""
    rows = np.arange(0, rgb.shape[0], factor_y)
    cols = np.arange(0, rgb.shape[1], factor_x)
    wide = np.diff(np.append(cols, rgb.shape[1]))[:, None]
    out = np.empty((rows.size, cols.size, 3), np.uint8)
    for i, y in enumerate(rows):
        strip = rgb[y : y + factor_y].sum(axis=0, dtype=np.uint32)
        count = wide * min(factor_y, rgb.shape[0] - y)
        out[i] = (np.add.reduceat(strip, cols, axis=0) + count // 2) // count
    return out
