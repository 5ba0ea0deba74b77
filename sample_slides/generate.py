"""Make small H&E-like slides whose class is known at every pixel, from a seed.

    python sample_slides/generate.py [--out sample_slides]

Three steps, each an array in and an array out. `lay_out` draws where each class lies (smooth noise,
thresholded at the shares that are asked for). `stain_amounts` fills the classes with what they are
made of: wavy fibres, nests of crowded nuclei, clusters of lymphocytes, fat cells; its result is how
much haematoxylin and eosin each pixel binds. `develop` turns that into light by Beer-Lambert's law,
then blurs and adds noise as a scanner does.

The same seed gives the same bytes with the same versions of NumPy, SciPy, Pillow and imagecodecs.
"""

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageDraw
from scipy import interpolate, ndimage, spatial

from noctile.pipeline.geometry import Extent, Frame

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

GLASS, TUMOR, STROMA, LYMPHOCYTES, FAT = 0, 1, 2, 3, 9
CLASS_NAMES = {TUMOR: "tumor", STROMA: "stroma", LYMPHOCYTES: "lymphocytic_infiltrate", FAT: "fat"}
"""Codes and names of the Breast Cancer Semantic Segmentation data set (its gtruth_codes.tsv); 0 is
glass."""

TRUTH_UM = 0.5
"""Pixel size at which the truth is drawn and stored (um)."""

JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Stain:
    """How a laboratory stains and a scanner sees.

    Attributes:
        haematoxylin: optical density of one unit of it in R, G, B.
        eosin: the same for eosin.
        glass: R, G, B of the empty slide, 0..255.
    """

    haematoxylin: tuple[float, float, float] = (0.563, 0.720, 0.406)
    eosin: tuple[float, float, float] = (0.216, 0.801, 0.558)
    glass: tuple[float, float, float] = (243.0, 243.0, 241.0)

    def jitter(self, rng: np.random.Generator, amount: float = 0.12) -> "Stain":
        """The same stain on another day: each density times a log-normal factor, and another
        strength.
        """

        def vary(vector: tuple[float, float, float]) -> tuple[float, float, float]:
            strength = np.exp(rng.normal(0, amount))
            r, g, b = np.asarray(vector) * strength * np.exp(rng.normal(0, amount / 2, 3))
            return float(r), float(g), float(b)

        r, g, b = np.clip(np.asarray(self.glass) + rng.normal(0, 2.0, 3), 228, 250)
        return Stain(vary(self.haematoxylin), vary(self.eosin), (float(r), float(g), float(b)))


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a piece of tissue is made of.

    Attributes:
        tumor: share of the tissue, 0..1; the rest is stroma.
        lymphocytes: share of the tissue.
        fat: share of the tissue.
        nest_um: width of a tumor nest.
        nucleus_um: mean half axis of a tumor nucleus.
        cell_um: distance between tumor nuclei.
        stain: of the slide.
        dark: haematoxylin in a tumor nucleus.
        open: how pale tumor nuclei are inside, 0..1.
        body: eosin and haematoxylin in the cytoplasm of tumor cells.
        lumen: share of the nests' insides that is the hollow of glands; it is annotated as tumor.
        lumen_um: how wide those are.
    """

    tumor: float = 0.35
    lymphocytes: float = 0.10
    fat: float = 0.12
    nest_um: float = 90.0
    nucleus_um: float = 5.3
    cell_um: float = 13.0
    stain: Stain = Stain()
    dark: float = 1.25
    open: float = 0.6
    body: tuple[float, float] = (0.62, 0.42)
    lumen: float = 0.0
    lumen_um: float = 25.0

    @classmethod
    def draw(cls, rng: np.random.Generator, varied: bool = False) -> "Recipe":
        """Any tissue, any stain: for training.

        Args:
            rng: source of chance.
            varied: tumor cells of any size, distance, density and chromatin, with glands among
                them; without it they look as those of the sample slides do.
        """
        recipe = cls(
            tumor=rng.uniform(0.15, 0.5),
            lymphocytes=rng.uniform(0.04, 0.2),
            fat=rng.uniform(0.0, 0.25),
            nest_um=rng.uniform(40 if varied else 60, 140),
            nucleus_um=rng.uniform(*((4.2, 7.0) if varied else (4.6, 6.2))),
            cell_um=rng.uniform(2.1, 3.6) if varied else rng.uniform(11.5, 15),
            stain=Stain().jitter(rng, 0.2),
        )
        if not varied:
            return recipe
        return replace(
            recipe,
            cell_um=recipe.cell_um * recipe.nucleus_um,
            dark=rng.uniform(0.9, 1.8),
            open=rng.uniform(0.1, 0.9),
            body=(rng.uniform(0.25, 0.9), rng.uniform(0.1, 0.6)),
            lumen=max(0.0, rng.uniform(-0.1, 0.15)),
            lumen_um=rng.uniform(12, 40),
        )


def noise(
    rng: np.random.Generator, shape: tuple[int, int], scale_px: float, octaves: int = 1
) -> Float:
    """Smooth random field.

    Args:
        rng: source of chance.
        shape: rows and columns (px).
        scale_px: distance over which it changes (px); each further octave halves it and its
            amplitude.
        octaves: how many scales are summed.

    Returns:
        float32 ``shape``, mean about 0, standard deviation about 1.
    """
    total = np.zeros(shape, np.float32)
    for k in range(octaves):
        step = max(scale_px / 2**k, 1.0)
        h, w = (side / step for side in shape)
        grid = rng.standard_normal((int(h) + 4, int(w) + 4), dtype=np.float32)
        smooth = Image.fromarray(grid).resize(
            shape[::-1], Image.Resampling.BICUBIC, box=(1, 1, 1 + w, 1 + h)
        )
        total += np.asarray(smooth) / 2**k
    return total / np.float32(0.75 * np.sqrt((1 - 0.25**octaves) / 0.75))


def lay_out(
    rng: np.random.Generator, shape: tuple[int, int], recipe: Recipe, outline: bool
) -> UInt8:
    """Draw where each class lies.

    Args:
        rng: source of chance.
        shape: rows and columns (px of `TRUTH_UM`).
        recipe: shares and sizes.
        outline: whether the tissue ends within the region; otherwise it fills it.

    Returns:
        uint8 ``shape``, class codes; 0 is glass.
    """
    um = 1 / TRUTH_UM
    tissue = _outline(rng, shape) if outline else np.ones(shape, bool)
    codes = np.where(tissue, STROMA, GLASS).astype(np.uint8)
    nests = noise(rng, shape, recipe.nest_um * um, 4) + 0.7 * noise(rng, shape, 420 * um, 2)
    tumor = _tidy(_top(nests, tissue, recipe.tumor), 2500 * um**2)
    near_tumor = _blurred(tumor, 60 * um)
    fat = _top(noise(rng, shape, 300 * um, 2) - 5 * near_tumor, tissue, recipe.fat)
    codes[_tidy(fat, 9000 * um**2)] = FAT
    free = codes == STROMA
    lymph = _top(
        noise(rng, shape, 110 * um, 3) + 2 * near_tumor - 20 * tumor,
        free,
        recipe.lymphocytes * tissue.sum() / max(free.sum(), 1),
    )
    codes[_tidy(lymph & free, 1200 * um**2)] = LYMPHOCYTES
    codes[tumor & tissue] = TUMOR
    return codes


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Bool:
    um = 1 / TRUTH_UM
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    inside = 0.75 - (y / 0.86) ** 2 - (x / 0.86) ** 2
    field = (
        inside
        + 0.24 * noise(rng, shape, 0.35 * min(shape), 2)
        + 0.05 * noise(rng, shape, 50 * um, 4)
    )
    for side in (y, x):
        field = field - 8 * np.maximum(np.abs(side) - 0.82, 0)
    return _tidy(field > 0, 20_000 * um**2)


def _top(field: Float, within: Bool, share: float) -> Bool:
    """The highest ``share`` of ``field`` inside ``within``."""
    if share <= 0 or not within.any():
        return np.zeros(field.shape, bool)
    return within & (field > np.quantile(field[within][::7], max(0.0, 1 - share)))


def _tidy(mask: Bool, smallest_px: float) -> Bool:
    """Without islands and holes that are smaller than ``smallest_px`` (holes: half of that)."""
    for value, least in ((True, smallest_px), (False, smallest_px / 2)):
        pieces, _ = ndimage.label(mask == value)
        sizes = np.bincount(pieces.ravel())
        small = sizes < least
        small[0] = False
        mask = mask ^ small[pieces]
    return mask


def _blurred(mask: Bool, sigma_px: float) -> Float:
    """A mask's share in its neighbourhood; computed on a grid a quarter of ``sigma_px`` wide."""
    step = max(1, int(sigma_px / 4))
    small = Image.fromarray(mask.astype(np.float32)).reduce(step)
    soft = ndimage.gaussian_filter(np.asarray(small), sigma_px / step, mode="nearest")
    size = mask.shape[1], mask.shape[0]
    box = (0, 0, min(size[0] / step, small.width), min(size[1] / step, small.height))
    return np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC, box=box))


@dataclass(frozen=True, slots=True)
class Fibres:
    """Collagen: how dense it is, and which way it runs.

    Attributes:
        density: float32 ``[h, w]``, 0 (a cleft) to about 1.3.
        along: float32 ``[h, w]``, direction of the fibres (radians, from x towards y).
    """

    density: Float
    along: Float


def weave(rng: np.random.Generator, codes: UInt8, mpp: float) -> Fibres:
    """Wavy fibres that bend around tumor nests.

    The texture is noise, long in one direction and short in the other, looked up at coordinates
    that smooth noise has bent; fibres run where the cross coordinate ``v`` is constant.
    """
    shape = codes.shape[0], codes.shape[1]
    turn = rng.uniform(0, np.pi)
    y, x = (np.float32(mpp) * a for a in np.ogrid[: shape[0], : shape[1]])
    u = np.cos(turn) * x + np.sin(turn) * y + 60 * noise(rng, shape, 300 / mpp)
    v = (
        np.cos(turn) * y
        - np.sin(turn) * x
        + 55 * noise(rng, shape, 300 / mpp)
        + 45 * _blurred(codes == TUMOR, 22 / mpp)
    )
    v += 4 * noise(rng, shape, 36 / mpp, 2) + 0.7 * noise(rng, shape, 7 / mpp, 2)

    def strands(long_um: float, short_um: float) -> Float:
        grid = rng.standard_normal((1021, 1021), dtype=np.float32)
        return ndimage.map_coordinates(grid, [v / short_um, u / long_um], order=1, mode="grid-wrap")

    bundles, fine, fibrils, clefts = (
        strands(70, 12),
        strands(24, 3.2),
        strands(9, 1.3),
        strands(30, 4),
    )
    density = np.clip(0.64 + 0.2 * bundles + 0.2 * fine + 0.18 * fibrils, 0.12, 1.4)
    loose = 0.5 * noise(rng, shape, 90 / mpp, 2) + 0.25 * bundles
    density *= np.clip(1 - 2.2 * (clefts - 1.2 + loose), 0.03, 1)
    return Fibres(np.asarray(density, np.float32), _contours(v))


def inflate(rng: np.random.Generator, shape: tuple[int, int], mpp: float) -> Fibres:
    """Fat: round empty cells between thin walls (the clefts of a Voronoi diagram)."""
    step = max(1, round(1 / mpp))
    height, width = (-(-side // step) for side in shape)
    centres = _scatter(rng, np.ones((height + 80, width + 80), bool), 58) - 40
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bent = np.stack([a + 5 * noise(rng, (height, width), 25) for a in (y, x)], axis=-1)
    distances, _ = spatial.cKDTree(centres).query(bent, k=3)
    near = np.asarray(distances, np.float32)
    gap = Image.fromarray(
        (near[..., 1] - near[..., 0]) * (near[..., 2] - near[..., 0]) / (near[..., 2] + 1)
    )
    gap_um = np.asarray(gap.resize((width * step, height * step), Image.Resampling.BICUBIC))[
        : shape[0], : shape[1]
    ]
    width_um = 0.9 + 0.25 * noise(rng, shape, 40 / mpp)
    return Fibres(
        0.75 / (1 + np.exp(np.minimum((gap_um - width_um) / 0.25, 50))), _contours(gap_um)
    )


def _contours(field: Float) -> Float:
    """The direction in which a field does not change (radians, from x towards y), on a grid of four
    pixels.
    """
    dy, dx = np.gradient(field[::4, ::4])
    along: Float = np.arctan2(-dx, dy).repeat(4, axis=0).repeat(4, axis=1)
    return along[: field.shape[0], : field.shape[1]]


@dataclass(frozen=True, slots=True)
class Cells:
    """Nuclei as ellipses with a bumpy edge, one row each (px, radians).

    Attributes:
        place: float32 ``[n, 2]``, y and x.
        axes: float32 ``[n, 2]``, half axes; the first one is the longer.
        angle: float32 ``[n]``, of the longer axis, from x towards y.
        bumps: float32 ``[n, 3]``, relative height of the 2nd, 3rd and 5th harmonic of the edge.
        dark: float32 ``[n]``, haematoxylin in the nucleus.
        open: float32 ``[n]``, how pale it is inside (0 clumped, 1 vesicular with a nucleolus).
        reach: how far a cell goes, in half axes of its nucleus.
    """

    place: Float
    axes: Float
    angle: Float
    bumps: Float
    dark: Float
    open: Float
    reach: float


def _scatter(rng: np.random.Generator, mask: Bool, spacing_px: float, keep: float = 1.0) -> Float:
    """FaultOrigin about ``spacing_px`` apart in a mask: a jittered hexagonal grid, float32 ``[n,
    2]``.
    """
    rows, cols = int(mask.shape[0] / spacing_px / 0.87) + 2, int(mask.shape[1] / spacing_px) + 2
    r, c = np.mgrid[:rows, :cols].astype(np.float32)
    places = np.stack([r * 0.87, c + 0.5 * (r % 2)], axis=-1).reshape(-1, 2)
    places = (places + rng.normal(0, 0.17, places.shape)) * spacing_px
    places = places[rng.random(len(places)) < keep]
    y, x = places.astype(int).T
    inside = (y >= 0) & (x >= 0) & (y < mask.shape[0]) & (x < mask.shape[1])
    inside[inside] = mask[y[inside], x[inside]]
    return np.asarray(places[inside], np.float32)


def _cells(
    rng: np.random.Generator,
    place: Float,
    half_px: tuple[float, float],
    slender: tuple[float, float],
    look: tuple[float, float, float],
    reach: float = 1.15,
) -> Cells:
    """Nuclei at given places; ``half_px`` and ``slender`` are ranges of the long half axis and of
    short / long.

    ``look`` is haematoxylin, openness and height of the bumps.
    """
    n = len(place)
    long = rng.uniform(*half_px, n) * np.exp(rng.normal(0, 0.08, n))
    axes = np.stack([long, long * rng.uniform(*slender, n)], axis=1)
    dark, pale, bumpy = look
    return Cells(
        place,
        axes.astype(np.float32),
        rng.uniform(0, np.pi, n).astype(np.float32),
        (bumpy * rng.normal(0, 1, (n, 3)) * (0.5, 1, 0.6)).astype(np.float32),
        (dark * np.exp(rng.normal(0, 0.16, n))).astype(np.float32),
        np.clip(pale * rng.uniform(0.4, 1.5, n), 0, 1).astype(np.float32),
        reach,
    )


def populate(
    rng: np.random.Generator, codes: UInt8, hollow: Bool, fibres: Fibres, recipe: Recipe, mpp: float
) -> tuple[Cells, ...]:
    """Nuclei: of the tumor, along fibres and fat walls, of the infiltrate, and lymphocytes that
    have wandered.
    """
    um = 1 / mpp
    tumor, stroma, lymph, fat = (codes == k for k in (TUMOR, STROMA, LYMPHOCYTES, FAT))
    size = recipe.nucleus_um * um
    thin = _scatter(
        rng, (stroma & (fibres.density > 0.2)) | (fat & (fibres.density > 0.35)), 22 * um, 0.8
    )
    spindles = _cells(rng, thin, (4.5 * um, 9 * um), (0.13, 0.3), (1.5, 0.1, 0.05))
    y, x = thin.astype(int).T
    spindles = replace(
        spindles, angle=(fibres.along[y, x] + rng.normal(0, 0.15, len(y))).astype(np.float32)
    )
    crowd = _scatter(rng, tumor & ~hollow, recipe.cell_um * um, 0.96)
    small, clumped = (2.7 * um, 3.5 * um), (1.75, 0.15, 0.04)
    return (
        _cells(
            rng,
            crowd,
            (0.8 * size, 1.3 * size),
            (0.6, 0.95),
            (recipe.dark, recipe.open, 0.07),
            reach=max(2.3, 0.75 * recipe.cell_um / recipe.nucleus_um),
        ),
        spindles,
        _cells(rng, _scatter(rng, lymph, 8.2 * um, 0.9), small, (0.8, 1.0), clumped),
        _cells(rng, _scatter(rng, tumor | stroma, 24 * um, 0.08), small, (0.8, 1.0), clumped),
    )


@dataclass(frozen=True, slots=True)
class Territory:
    """Which cell each pixel belongs to.

    Attributes:
        owner: int64 ``[h, w]``, row of the cell in the concatenated list, -1 outside every cell's
            reach.
        depth: float32 ``[h, w]``, distance from its centre in half axes of its nucleus: 1 is the
            nucleus' edge.
    """

    owner: Int
    depth: Float


_FINE = 4096  # a depth is compared in steps of 1 / _FINE
_NOBODY = np.iinfo(np.int64).max
_BATCH_PX = 8_000_000  # pixels that are drawn at once: it bounds memory, not the result


def settle(groups: tuple[Cells, ...], shape: tuple[int, int]) -> Territory:
    """Give each pixel to the cell that is nearest in units of its own size, as far as the cells
    reach.
    """
    best = np.full(shape[0] * shape[1], _NOBODY, np.int64)
    first = 0
    for cells in groups:
        half = int(np.ceil(cells.axes.max(initial=0) * cells.reach)) + 1
        step = max(1, _BATCH_PX // (2 * half + 1) ** 2)
        for start in range(0, len(cells.place), step):
            rows = slice(start, min(start + step, len(cells.place)))
            _claim(best, shape, cells, rows, first, half)
        first += len(cells.place)
    owner = np.where(best == _NOBODY, -1, best & 0xFFFFFFFF).reshape(shape)
    depth = np.where(best == _NOBODY, 99, (best >> 32) / _FINE).astype(np.float32).reshape(shape)
    return Territory(owner, depth)


def _claim(
    best: Int, shape: tuple[int, int], cells: Cells, rows: slice, first: int, half: int
) -> None:
    """Lower ``best`` (depth in the upper 32 bits, cell in the lower) to what these cells offer."""
    place, axes = cells.place[rows], cells.axes[rows]
    cos, sin = (f(cells.angle[rows])[:, None, None] for f in (np.cos, np.sin))
    whole = np.floor(place).astype(np.int64)
    y, x = (
        whole[:, k, None, None] + o
        for k, o in enumerate(np.ogrid[-half : half + 1, -half : half + 1])
    )
    dy, dx = ((a - place[:, k, None, None]).astype(np.float32) for k, a in enumerate((y, x)))
    u = (cos * dx + sin * dy) / axes[:, 0, None, None]
    v = (cos * dy - sin * dx) / axes[:, 1, None, None]
    radius = np.hypot(u, v)
    around = np.arctan2(v, u)
    edge = sum(
        cells.bumps[rows, k, None, None] * np.cos(n * around + k) for k, n in enumerate((2, 3, 5))
    )
    depth = radius / (1 + edge)
    ours = (depth < cells.reach) & (y >= 0) & (x >= 0) & (y < shape[0]) & (x < shape[1])
    who = np.broadcast_to(
        np.arange(first + rows.start, first + rows.stop)[:, None, None], ours.shape
    )[ours]
    np.minimum.at(
        best, (y * shape[1] + x)[ours], ((depth[ours] * _FINE).astype(np.int64) << 32) | who
    )


def stain_amounts(
    rng: np.random.Generator, codes: UInt8, recipe: Recipe, mpp: float
) -> tuple[Float, Float]:
    """Fill the classes with what they are made of.

    Args:
        rng: source of chance.
        codes: uint8 ``[h, w]``.
        recipe: sizes.
        mpp: pixel size (um).

    Returns:
        haematoxylin and eosin, float32 ``[h, w]`` each, in units of about one.
    """
    shape = codes.shape[0], codes.shape[1]
    stroma, fat = weave(rng, codes, mpp), inflate(rng, shape, mpp)
    fibres = Fibres(
        *(
            np.where(codes == FAT, *pair)
            for pair in ((fat.density, stroma.density), (fat.along, stroma.along))
        )
    )
    hollow = _hollow(rng, codes, recipe, mpp)
    groups = populate(rng, codes, hollow, fibres, recipe, mpp)
    land = settle(groups, shape)
    tint = np.concatenate([rng.normal(0, 1, len(g.place)) for g in groups]).astype(np.float32)
    grain = noise(rng, shape, 1.6 / mpp, 2)
    haze = noise(rng, shape, 60 / mpp, 3)
    soft = {k: _soft(codes == k, 0.8 / mpp) for k in CLASS_NAMES}

    wall = np.zeros(shape, bool)
    wall[:-1] |= land.owner[:-1] != land.owner[1:]
    wall[:, :-1] |= land.owner[:, :-1] != land.owner[:, 1:]
    gap = np.clip(
        ndimage.gaussian_filter(wall.astype(np.float32), 0.35 / mpp) * 0.6
        + (land.depth > groups[0].reach - 0.1) * 0.4,
        0,
        0.6,
    )
    body = (0.78 + 0.1 * tint[land.owner] + 0.10 * grain + 0.08 * haze) * (1 - gap)
    loose = np.clip(0.35 + 0.5 * stroma.density - 0.25, 0.05, 1)
    eosin = (
        soft[TUMOR] * recipe.body[0] * body
        + soft[STROMA] * stroma.density * (1 + 0.1 * haze + 0.08 * grain)
        + soft[FAT] * fat.density
    )
    eosin += soft[LYMPHOCYTES] * loose * 0.8 + 1.6 * soft[FAT] * (
        1 - soft[FAT]
    )  # a thin wall around the fat
    blue = (
        soft[TUMOR] * recipe.body[1] * body
        + soft[STROMA] * 0.07 * stroma.density
        + soft[FAT] * 0.06 * fat.density
    )
    blue += soft[LYMPHOCYTES] * 0.2 * loose
    if hollow.any():
        full = 1 - _soft(hollow & (land.depth > 1.15), 0.8 / mpp)
        blue, eosin = blue * full, eosin * full
    return _with_nuclei(blue, eosin, groups, land, grain, mpp)


def _hollow(rng: np.random.Generator, codes: UInt8, recipe: Recipe, mpp: float) -> Bool:
    """The empty insides of glands, away from the edge of their nests."""
    if not recipe.lumen:
        return np.zeros(codes.shape, bool)
    shape = codes.shape[0], codes.shape[1]
    inner = _blurred(codes == TUMOR, 12 / mpp) > 0.75
    return _top(noise(rng, shape, recipe.lumen_um / mpp, 3), inner, recipe.lumen)


def _soft(mask: Bool, sigma_px: float) -> Float:
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma_px)


def _with_nuclei(
    blue: Float, eosin: Float, groups: tuple[Cells, ...], land: Territory, grain: Float, mpp: float
) -> tuple[Float, Float]:
    """Lay nuclei over what the classes bind: a dark rim, chromatin, and a nucleolus in the open
    ones.
    """
    dark, pale = (np.concatenate([getattr(g, name) for g in groups]) for name in ("dark", "open"))
    place, axes = (np.concatenate([getattr(g, name) for g in groups]) for name in ("place", "axes"))
    y, x = np.nonzero(land.depth < 1.15)
    who, depth = land.owner[y, x], land.depth[y, x]
    cover = np.clip((1.06 - depth) / 0.12, 0, 1)
    rim = np.exp(-(((depth - 0.9) / 0.13) ** 2))
    spot = place[who] + 0.3 * axes[who, 1:] * np.stack(
        [np.cos(who * 2.4), np.sin(who * 2.4)], axis=1
    )
    nucleolus = np.exp(-(((y - spot[:, 0]) ** 2 + (x - spot[:, 1]) ** 2) * (mpp / 1.1) ** 2))
    chromatin = (
        1
        - pale[who] * (0.5 - 0.45 * rim - 0.75 * nucleolus)
        + (0.1 + 0.2 * pale[who]) * grain[y, x]
    )
    blue[y, x] += cover * (dark[who] * chromatin - blue[y, x])
    eosin[y, x] += cover * (0.22 - eosin[y, x])
    return blue, eosin


def develop(
    rng: np.random.Generator,
    blue: Float,
    eosin: Float,
    stain: Stain,
    mpp: float,
    veil: Float | None = None,
) -> UInt8:
    """Light through the stains (Beer-Lambert), a scanner's blur and noise.

    ``veil`` is what else lies on the glass, as optical density, float32 ``[h, w, 3]``.

    Returns:
        uint8 ``[h, w, 3]``, RGB.
    """
    shape = blue.shape[0], blue.shape[1]
    rgb = np.empty((*shape, 3), np.uint8)
    shade = 1 + 0.006 * noise(rng, shape, 900 / mpp)
    for k in range(3):
        density = stain.haematoxylin[k] * np.maximum(blue, 0) + stain.eosin[k] * np.maximum(
            eosin, 0
        )
        if veil is not None:
            density = density + veil[..., k]
        light = ndimage.gaussian_filter(stain.glass[k] * shade * np.exp(-density), 0.3 / mpp)
        light += 1.2 * rng.standard_normal(shape, dtype=np.float32)
        rgb[..., k] = np.clip(light + 0.5, 0, 255)
    return rgb


def make_region(
    seed: int,
    height: int,
    width: int,
    mpp: float,
    recipe: Recipe | None = None,
    *,
    outline: bool = False,
    varied: bool = False,
) -> tuple[UInt8, UInt8]:
    """A piece of stained tissue and its truth.

    Args:
        seed: the same one gives the same pixels.
        height: rows (px).
        width: columns (px).
        mpp: pixel size (um), close to `TRUTH_UM` or a whole fraction of it.
        recipe: what it is made of; None draws one.
        outline: whether the tissue ends within the region, with glass around it.
        varied: of a recipe that is drawn, see `Recipe.draw`.

    Returns:
        RGB, uint8 ``[height, width, 3]``, and class codes, uint8 ``[height, width]``.
    """
    rng = np.random.default_rng(seed)
    recipe = recipe or Recipe.draw(rng, varied)
    codes = _enlarge(
        lay_out(rng, _truth_shape(height, width, mpp), recipe, outline), height, width, mpp
    )
    return develop(rng, *stain_amounts(rng, codes, recipe, mpp), recipe.stain, mpp), codes


def _truth_shape(height: int, width: int, mpp: float) -> tuple[int, int]:
    extent = Frame(Extent(height, width), mpp, mpp).at(TRUTH_UM).extent
    return extent.height, extent.width


def _enlarge(coarse: npt.NDArray[Any], height: int, width: int, mpp: float) -> npt.NDArray[Any]:
    """From the truth's pixels to the slide's."""
    factor = max(1, round(TRUTH_UM / mpp))
    return coarse.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width]


@dataclass(frozen=True, slots=True)
class Sample:
    """A slide that ships with Noctile.

    Attributes:
        file: its name; ``.svs`` is written as Aperio does, ``.tiff`` as a generic tiled pyramid.
        seed: of everything in it.
        height: of level 0 (px).
        width: of level 0 (px).
        mpp: of level 0 (um).
        power: the objective's magnification, for the Aperio header.
        recipe: what the tissue is made of; None for a slide without tissue.
        strokes: pen marks, each an ink (optical density in R, G, B) and a line of points (y, x as
            shares of the sides).
    """

    file: str
    seed: int
    height: int
    width: int
    mpp: float
    power: int
    recipe: Recipe | None
    strokes: tuple[tuple[tuple[float, float, float], tuple[tuple[float, float], ...]], ...] = ()

    @property
    def slide_id(self) -> str:
        """The file's name without its suffix."""
        return Path(self.file).stem

    @property
    def truth_frame(self) -> Frame:
        """The pixels of the truth."""
        return Frame(Extent(self.height, self.width), self.mpp, self.mpp).at(TRUTH_UM)


BLUE_INK, GREEN_INK = (2.1, 1.5, 0.45), (2.0, 0.65, 1.2)

SAMPLES = (
    Sample("tumor-nests-20x.svs", 11, 2500, 2300, 0.499, 20, Recipe(tumor=0.42, lymphocytes=0.08, fat=0.08)),
    Sample(
        "fat-and-infiltrate-20x.svs", 22, 2240, 2600, 0.499, 20,
        Recipe(tumor=0.12, lymphocytes=0.22, fat=0.3, nest_um=60,
               stain=Stain((0.50, 0.60, 0.30), (0.10, 0.62, 0.30), (246, 244, 247))),
    ),
    Sample(
        "scan-40x.svs", 33, 2987, 2801, 0.25, 40,
        Recipe(tumor=0.35, lymphocytes=0.12, fat=0.0, nest_um=80,
               stain=Stain((0.72, 0.85, 0.40), (0.14, 0.98, 0.72), (240, 241, 238))),
    ),
    Sample(
        "generic.tiff", 44, 2304, 2100, 0.5, 20,
        Recipe(tumor=0.3, lymphocytes=0.1, fat=0.15, nest_um=120, nucleus_um=5.8, cell_um=14.5,
               stain=Stain((0.62, 0.66, 0.26), (0.26, 0.72, 0.40), (238, 238, 241))),
    ),
    Sample(
        "pen-marks.svs", 55, 2200, 2200, 0.499, 20, Recipe(tumor=0.25, lymphocytes=0.1, fat=0.1),
        strokes=(
            (BLUE_INK, ((0.55, 0.06), (0.32, 0.11), (0.15, 0.25), (0.09, 0.45), (0.12, 0.66))),
            (GREEN_INK, ((0.52, 0.96), (0.74, 0.93), (0.91, 0.78))),
            (GREEN_INK, ((0.93, 0.07), (0.88, 0.16), (0.94, 0.28))),
        ),
    ),
    Sample("nearly-blank.svs", 66, 2048, 2048, 0.499, 20, None),
)  # fmt: skip


def draw_slide(sample: Sample) -> tuple[UInt8, UInt8]:
    """Pixels and truth of a sample.

    Returns:
        RGB, uint8 ``[height, width, 3]``, and class codes on ``sample.truth_frame``, uint8; 0 under
        ink.
    """
    rng = np.random.default_rng(sample.seed)
    shape, native = (
        _truth_shape(sample.height, sample.width, sample.mpp),
        (sample.height, sample.width),
    )
    veil = np.zeros((*native, 3), np.float32)
    if sample.recipe is None:
        truth = np.zeros(shape, np.uint8)
        blue = eosin = np.zeros(native, np.float32)
        veil += _dust(rng, native, sample.mpp)[..., None] * np.array([0.8, 1.0, 1.15], np.float32)
        return develop(rng, blue, eosin, Stain(), sample.mpp, veil), truth
    truth = lay_out(rng, shape, sample.recipe, outline=True)
    blue, eosin = stain_amounts(
        rng, _enlarge(truth, *native, sample.mpp), sample.recipe, sample.mpp
    )
    for ink, line in sample.strokes:
        mark = _stroke(rng, shape, line)
        veil += _enlarge(mark, *native, sample.mpp)[..., None] * np.array(ink, np.float32)
        truth = np.where(mark > 0, np.uint8(GLASS), truth)
    return develop(rng, blue, eosin, sample.recipe.stain, sample.mpp, veil), truth


def _stroke(
    rng: np.random.Generator, shape: tuple[int, int], line: tuple[tuple[float, float], ...]
) -> Float:
    """A felt pen's line of about 90 um, unevenly dense, float32 ``shape``, 0..1."""
    um = 1 / TRUTH_UM
    canvas = Image.new("F", shape[::-1])
    pen, r = ImageDraw.Draw(canvas), 45 * um
    way = np.linspace(0, len(line) - 1, 200)
    curve = interpolate.CubicSpline(np.arange(len(line)), np.asarray(line) * shape)(way)
    for y, x in curve:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=1.0)
    edge = _blurred(np.asarray(canvas) > 0, 12 * um) + 0.06 * noise(rng, shape, 40 * um, 4)
    return np.where(
        edge > 0.45, np.clip(0.75 + 0.15 * noise(rng, shape, 60 * um, 3), 0.3, 1.2), 0
    ).astype(np.float32)


def _dust(rng: np.random.Generator, shape: tuple[int, int], mpp: float) -> Float:
    """Specks and lint, each far smaller than any tissue, float32 ``shape``: optical density."""
    canvas = Image.new("F", shape[::-1])
    pen = ImageDraw.Draw(canvas)
    for _ in range(14):
        y, x = rng.uniform(0, 1, 2) * shape
        r = rng.uniform(3, 12) / mpp
        pen.ellipse(
            (x - r, y - r * rng.uniform(0.5, 1), x + r, y + r), fill=float(rng.uniform(0.2, 1.2))
        )
    for _ in range(3):
        steps = np.cumsum(rng.normal(0, 0.25, 60)) + rng.uniform(0, 6.3)
        walk = (
            np.cumsum(np.stack([np.cos(steps), np.sin(steps)], 1) * 5 / mpp, 0)
            + rng.uniform(0.2, 0.8, 2) * shape[::-1]
        )
        pen.line([(float(x), float(y)) for x, y in walk], fill=0.5, width=max(1, round(2 / mpp)))
    lumps = np.clip(1 + 0.3 * noise(rng, shape, 5 / mpp, 2), 0, 2)
    return ndimage.gaussian_filter(np.asarray(canvas) * lumps, 1 / mpp)


def write_slide(path: Path, rgb: UInt8, sample: Sample) -> None:
    """Write a pyramid of tiled JPEG levels, each a quarter of the one before as long as it is wider
    than 500 px.

    An ``.svs`` has Aperio's header and, as its second image, the thumbnail that readers of that
    format expect; a ``.tiff`` states its pixel size in the TIFF resolution tags.
    """
    levels = [rgb]
    while min(levels[-1].shape[:2]) // 4 >= 500:
        height, width = (side // 4 * 4 for side in levels[-1].shape[:2])
        levels.append(np.asarray(Image.fromarray(levels[-1][:height, :width]).reduce(4)))
    aperio = path.suffix == ".svs"
    side = 240 if aperio else 256
    with tifffile.TiffWriter(path) as tiff:
        for k, level in enumerate(levels):
            own = (
                {"description": _aperio_header(sample, level)}
                if aperio
                else _resolution(sample.mpp * 4**k)
            )
            _append(tiff, level, tile=(side, side), subfiletype=0 if aperio or not k else 1, **own)
            if aperio and not k:
                small = np.asarray(Image.fromarray(rgb).reduce(8))
                _append(
                    tiff,
                    small,
                    rowsperstrip=small.shape[0],
                    description=_aperio_header(sample, small),
                )


def _append(tiff: tifffile.TiffWriter, pixels: UInt8, **tags: Any) -> None:
    """Write one image of a TIFF as JPEG, YCbCr 4:2:0: in tiles if ``tags`` has a tile, else as one
    strip.
    """
    height, width = tags.get("tile", pixels.shape[:2])
    pad = ((0, -pixels.shape[0] % height), (0, -pixels.shape[1] % width), (0, 0))
    padded = np.pad(pixels, pad, mode="edge")
    parts = (
        bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(padded[y : y + height, x : x + width]),
                level=JPEG_QUALITY,
                colorspace="RGB",
                outcolorspace="YCBCR",
                subsampling="420",
            )
        )
        for y in range(0, padded.shape[0], height)
        for x in range(0, padded.shape[1], width)
    )
    tiff.write(
        parts,
        shape=pixels.shape,
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        metadata=None,
        software=False,
        **tags,
    )


def _resolution(mpp: float) -> dict[str, object]:
    return {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"}


def _aperio_header(sample: Sample, level: UInt8) -> str:
    """The text that makes a TIFF an Aperio slide (openslide.org/formats/aperio)."""
    shrunk = "" if level.shape[0] == sample.height else f" -> {level.shape[1]}x{level.shape[0]}"
    size = f"{sample.width}x{sample.height} [0,0 {sample.width}x{sample.height}] (240x240){shrunk}"
    about = f"AppMag = {sample.power}|MPP = {sample.mpp:.4f}|Filename = {sample.slide_id}|Title = generated tissue"
    return f"Aperio Image Library v11.2.1 \r\n{size} JPEG/YCbCr Q={JPEG_QUALITY}|{about}"


PALETTE = {
    TUMOR: (200, 30, 45),
    STROMA: (250, 175, 190),
    LYMPHOCYTES: (70, 90, 200),
    FAT: (250, 215, 90),
}


def write_truth(path: Path, truth: UInt8) -> None:
    """Write class codes as a PNG with a palette: its values are the codes, a viewer shows colours."""
    colors = np.zeros((256, 3), np.uint8)
    colors[list(PALETTE)] = list(PALETTE.values())
    image = Image.fromarray(truth)
    image.putpalette(colors.tobytes())
    image.save(path, optimize=True)


def areas(sample: Sample, truth: UInt8) -> list[tuple[str, str, str]]:
    """slide_id, class and area (mm2, six decimals) of each class, zero included."""
    pixel = sample.truth_frame.pixel_area_mm2
    return [
        (sample.slide_id, name, f"{np.sum(truth == k) * pixel:.6f}")
        for k, name in CLASS_NAMES.items()
    ]


def main() -> None:
    """Write every sample slide, its truth and the table of areas."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder (default: the script's own)"
    )
    out: Path = parser.parse_args().out
    (out / "truth").mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str]] = []
    for sample in SAMPLES:
        rgb, truth = draw_slide(sample)
        write_slide(out / sample.file, rgb, sample)
        write_truth(out / "truth" / f"{sample.slide_id}.png", truth)
        rows += areas(sample, truth)
        size_mb = (out / sample.file).stat().st_size / 1e6
        print(f"{out / sample.file}: {sample.width} x {sample.height} px, {size_mb:.2f} MB")
    with (out / "truth" / "areas.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("slide_id", "class", "area_mm2"), *rows])


if __name__ == "__main__":
    main()
