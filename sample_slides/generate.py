"""Make small H&E-like slides whose class is known at every pixel, from a seed.

    python sample_slides/generate.py [--out sample_slides]

Three steps, each an array in and an array out. `lay_out` draws where each class lies (smooth noise, thresholded at the
shares that are asked for). `stain_amounts` fills the classes with what they are made of: wavy fibres, nests of crowded
nuclei, clusters of lymphocytes, fat cells; its result is how much haematoxylin and eosin each pixel binds. `develop`
turns that into light by Beer-Lambert's law, then blurs and adds noise as a scanner does.

The same seed gives the same bytes with the same versions of NumPy, SciPy, Pillow and imagecodecs.
"""

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageDraw
from scipy import ndimage, spatial

from pipeline.geometry import Extent, Frame

UInt8 = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

GLASS, TUMOR, STROMA, LYMPHOCYTES, FAT = 0, 1, 2, 3, 9
CLASS_NAMES = {TUMOR: "tumor", STROMA: "stroma", LYMPHOCYTES: "lymphocytic_infiltrate", FAT: "fat"}
"""Codes and names of the Breast Cancer Semantic Segmentation data set (its gtruth_codes.tsv); 0 is glass."""

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
        """The same stain on another day: each density times a log-normal factor, and another strength."""

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
    """

    tumor: float = 0.35
    lymphocytes: float = 0.10
    fat: float = 0.12
    nest_um: float = 90.0
    nucleus_um: float = 5.3
    cell_um: float = 13.0
    stain: Stain = Stain()

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Recipe":
        """Any tissue, any stain: for training."""
        return cls(
            tumor=rng.uniform(0.15, 0.5),
            lymphocytes=rng.uniform(0.04, 0.2),
            fat=rng.uniform(0.0, 0.25),
            nest_um=rng.uniform(60, 140),
            nucleus_um=rng.uniform(4.6, 6.2),
            cell_um=rng.uniform(11.5, 15),
            stain=Stain().jitter(rng, 0.2),
        )


def noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float, octaves: int = 1) -> Float:
    """Smooth random field.

    Args:
        rng: source of chance.
        shape: rows and columns (px).
        scale_px: distance over which it changes (px); each further octave halves it and its amplitude.
        octaves: how many scales are summed.

    Returns:
        float32 ``shape``, mean about 0, standard deviation about 1.
    """
    total = np.zeros(shape, np.float32)
    for k in range(octaves):
        step = max(scale_px / 2**k, 1.0)
        h, w = (side / step for side in shape)
        grid = rng.standard_normal((int(h) + 4, int(w) + 4), dtype=np.float32)
        smooth = Image.fromarray(grid).resize(shape[::-1], Image.Resampling.BICUBIC, box=(1, 1, 1 + w, 1 + h))
        total += np.asarray(smooth) / 2**k
    return total / np.float32(0.75 * np.sqrt((1 - 0.25**octaves) / 0.75))


def lay_out(rng: np.random.Generator, shape: tuple[int, int], recipe: Recipe, outline: bool) -> UInt8:
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
    tumor = _tidy(_top(nests, tissue, recipe.tumor) & ndimage.binary_erosion(tissue, iterations=12), 2500 * um**2)
    near_tumor = _blurred(tumor, 60 * um)
    fat = _top(noise(rng, shape, 300 * um, 2) - 5 * near_tumor, tissue, recipe.fat)
    codes[_tidy(fat, 9000 * um**2)] = FAT
    free = codes == STROMA
    lymph = _top(noise(rng, shape, 110 * um, 3) + 2 * near_tumor - 20 * tumor, free, recipe.lymphocytes / free.mean())
    codes[_tidy(lymph & free, 1200 * um**2)] = LYMPHOCYTES
    codes[tumor & tissue] = TUMOR
    return codes


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> Bool:
    um = 1 / TRUTH_UM
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    inside = 0.75 - (y / 0.86) ** 2 - (x / 0.86) ** 2
    field = inside + 0.24 * noise(rng, shape, 0.35 * min(shape), 2) + 0.05 * noise(rng, shape, 50 * um, 4)
    margin = (np.abs(y) < 0.95) & (np.abs(x) < 0.95)
    return _tidy((field > 0) & margin, 20_000 * um**2)


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

    The texture is noise, long in one direction and short in the other, looked up at coordinates that smooth noise has
    bent; fibres run where the cross coordinate ``v`` is constant.
    """
    shape = codes.shape[0], codes.shape[1]
    turn = rng.uniform(0, np.pi)
    y, x = (np.float32(mpp) * a for a in np.ogrid[: shape[0], : shape[1]])
    u = np.cos(turn) * x + np.sin(turn) * y + 90 * noise(rng, shape, 300 / mpp)
    v = np.cos(turn) * y - np.sin(turn) * x + 70 * noise(rng, shape, 260 / mpp) + 5 * noise(rng, shape, 38 / mpp, 2)
    v += 60 * _blurred(codes == TUMOR, 22 / mpp)

    def strands(long_um: float, short_um: float) -> Float:
        grid = rng.standard_normal((1021, 1021), dtype=np.float32)
        return ndimage.map_coordinates(grid, [v / short_um, u / long_um], order=1, mode="grid-wrap")

    bundles, fine, clefts = strands(110, 13), strands(38, 2.6), strands(55, 4.5)
    density = np.clip(0.62 + 0.26 * bundles + 0.24 * fine, 0.12, 1.4)
    loose = 0.35 * noise(rng, shape, 90 / mpp, 2) + 0.25 * bundles
    density *= np.clip(1 - 2.2 * (clefts - 1.25 + loose), 0.03, 1)
    dy, dx = np.gradient(ndimage.zoom(v[::4, ::4], 1, order=0))
    along = np.arctan2(-dx, dy).repeat(4, axis=0).repeat(4, axis=1)[: shape[0], : shape[1]]
    return Fibres(density, along)


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
    """Places about ``spacing_px`` apart in a mask: a jittered hexagonal grid, float32 ``[n, 2]``."""
    rows, cols = int(mask.shape[0] / spacing_px / 0.87) + 2, int(mask.shape[1] / spacing_px) + 2
    r, c = np.mgrid[:rows, :cols].astype(np.float32)
    places = np.stack([r * 0.87, c + 0.5 * (r % 2)], axis=-1).reshape(-1, 2)
    places = (places + rng.normal(0, 0.17, places.shape)) * spacing_px
    places = places[rng.random(len(places)) < keep]
    y, x = places.astype(int).T
    inside = (y >= 0) & (x >= 0) & (y < mask.shape[0]) & (x < mask.shape[1])
    inside[inside] = mask[y[inside], x[inside]]
    return places[inside].astype(np.float32)


def _cells(
    rng: np.random.Generator,
    place: Float,
    half_px: tuple[float, float],
    slender: tuple[float, float],
    look: tuple[float, float, float],
    reach: float = 1.15,
) -> Cells:
    """Nuclei at given places; ``half_px`` and ``slender`` are ranges of the long half axis and of short / long.

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


def populate(rng: np.random.Generator, codes: UInt8, fibres: Fibres, recipe: Recipe, mpp: float) -> list[Cells]:
    """Nuclei of every class: tumor first, then stroma, infiltrate, and lymphocytes that have wandered."""
    um = 1 / mpp
    tumor, stroma, lymph, fat = (codes == k for k in (TUMOR, STROMA, LYMPHOCYTES, FAT))
    size = recipe.nucleus_um * um
    spindles = _scatter(rng, stroma & (fibres.density > 0.2), 21 * um, 0.8)
    thin = _cells(rng, spindles, (4.5 * um, 9 * um), (0.16, 0.34), (1.5, 0.1, 0.05))
    y, x = spindles.astype(int).T
    thin = replace(thin, angle=(fibres.along[y, x] + rng.normal(0, 0.15, len(y))).astype(np.float32))
    small, look = (2.7 * um, 3.5 * um), (1.75, 0.15, 0.04)
    return [
        _cells(rng, _scatter(rng, tumor, recipe.cell_um * um, 0.96), (0.8 * size, 1.3 * size), (0.6, 0.95),
               (1.25, 0.6, 0.07), reach=2.3),
        thin,
        _cells(rng, _scatter(rng, lymph, 8.2 * um, 0.9), small, (0.8, 1.0), look),
        _cells(rng, _scatter(rng, tumor | stroma, 24 * um, 0.08), small, (0.8, 1.0), look),
        _cells(rng, _scatter(rng, fat, 30 * um, 0.0), small, (0.3, 0.5), look),
    ]  # fmt: skip
