"""Sample slides that ship with Noctile."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import interpolate, ndimage

from noctile.pipeline.arrays import Float32, UInt8
from noctile.pipeline.geometry import Extent, Frame
from sample_slides.fields import blurred, noise
from sample_slides.layout import lay_out
from sample_slides.recipe import GLASS, TRUTH_UM, Recipe, Stain
from sample_slides.region import enlarge, truth_shape
from sample_slides.stains import develop, stain_amounts


@dataclass(frozen=True, slots=True)
class Sample:
    """Sample slide that ships with Noctile.

    Attributes:
        file: name of the file. ``.svs`` is written like Aperio's, ``.tiff`` as a generic pyramid.
        seed: seed of all random numbers in the slide.
        height: number of rows of level 0 (px).
        width: number of columns of level 0 (px).
        mpp: pixel size of level 0 (um).
        power: magnification of the objective, for the Aperio header.
        recipe: composition of the tissue; None for a slide without tissue.
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
        """Name of the file without its suffix."""
        return Path(self.file).stem

    @property
    def truth_frame(self) -> Frame:
        """Frame of the truth."""
        return Frame(Extent(self.height, self.width), self.mpp, self.mpp).at(TRUTH_UM)


BLUE_INK, GREEN_INK = (2.1, 1.5, 0.45), (2.0, 0.65, 1.2)


SAMPLES = (
    Sample(
        "tumor-nests-20x.svs",
        11,
        2500,
        2300,
        0.499,
        20,
        Recipe(tumor=0.42, lymphocytes=0.08, fat=0.08),
    ),
    Sample(
        "fat-and-infiltrate-20x.svs",
        22,
        2240,
        2600,
        0.499,
        20,
        Recipe(
            tumor=0.12,
            lymphocytes=0.22,
            fat=0.3,
            nest_um=60,
            stain=Stain((0.50, 0.60, 0.30), (0.10, 0.62, 0.30), (246, 244, 247)),
        ),
    ),
    Sample(
        "scan-40x.svs",
        33,
        2987,
        2801,
        0.25,
        40,
        Recipe(
            tumor=0.35,
            lymphocytes=0.12,
            fat=0.0,
            nest_um=80,
            stain=Stain((0.72, 0.85, 0.40), (0.14, 0.98, 0.72), (240, 241, 238)),
        ),
    ),
    Sample(
        "generic.tiff",
        44,
        2304,
        2100,
        0.5,
        20,
        Recipe(
            tumor=0.3,
            lymphocytes=0.1,
            fat=0.15,
            nest_um=120,
            nucleus_um=5.8,
            cell_um=14.5,
            stain=Stain((0.62, 0.66, 0.26), (0.26, 0.72, 0.40), (238, 238, 241)),
        ),
    ),
    Sample(
        "pen-marks.svs",
        55,
        2200,
        2200,
        0.499,
        20,
        Recipe(tumor=0.25, lymphocytes=0.1, fat=0.1),
        strokes=(
            (BLUE_INK, ((0.55, 0.06), (0.32, 0.11), (0.15, 0.25), (0.09, 0.45), (0.12, 0.66))),
            (GREEN_INK, ((0.52, 0.96), (0.74, 0.93), (0.91, 0.78))),
            (GREEN_INK, ((0.93, 0.07), (0.88, 0.16), (0.94, 0.28))),
        ),
    ),
    Sample("nearly-blank.svs", 66, 2048, 2048, 0.499, 20, None),
)


def draw_slide(sample: Sample) -> tuple[UInt8, UInt8]:
    """Draw the pixels and the truth of a sample.

    Returns:
        RGB, uint8 ``[height, width, 3]``, and class codes on ``sample.truth_frame``, uint8; 0 under
        ink.
    """
    rng = np.random.default_rng(sample.seed)
    shape, native = (
        truth_shape(sample.height, sample.width, sample.mpp),
        (sample.height, sample.width),
    )
    veil = np.zeros((*native, 3), np.float32)
    if sample.recipe is None:
        truth = np.zeros(shape, np.uint8)
        blue = eosin = np.zeros(native, np.float32)
        veil += _dust(rng, native, sample.mpp)[..., None] * np.array([0.8, 1.0, 1.15], np.float32)
        return develop(rng, blue, eosin, Stain(), sample.mpp, veil), truth
    truth = lay_out(rng, shape, sample.recipe, outline=True)
    blue, eosin = stain_amounts(rng, enlarge(truth, *native, sample.mpp), sample.recipe, sample.mpp)
    for ink, line in sample.strokes:
        mark = _stroke(rng, shape, line)
        veil += enlarge(mark, *native, sample.mpp)[..., None] * np.array(ink, np.float32)
        truth = np.where(mark > 0, np.uint8(GLASS), truth)
    return develop(rng, blue, eosin, sample.recipe.stain, sample.mpp, veil), truth


def _stroke(
    rng: np.random.Generator, shape: tuple[int, int], line: tuple[tuple[float, float], ...]
) -> Float32:
    """Draw the density of an uneven felt pen line, about 90 um wide, float32 ``shape``, 0..1.2."""
    um = 1 / TRUTH_UM
    canvas = Image.new("F", shape[::-1])
    pen, r = ImageDraw.Draw(canvas), 45 * um
    way = np.linspace(0, len(line) - 1, 200)
    curve = interpolate.CubicSpline(np.arange(len(line)), np.asarray(line) * shape)(way)
    for y, x in curve:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=1.0)
    edge = blurred(np.asarray(canvas) > 0, 12 * um) + 0.06 * noise(rng, shape, 40 * um, 4)
    return np.where(
        edge > 0.45, np.clip(0.75 + 0.15 * noise(rng, shape, 60 * um, 3), 0.3, 1.2), 0
    ).astype(np.float32)


def _dust(rng: np.random.Generator, shape: tuple[int, int], mpp: float) -> Float32:
    """Draw dust and lint, far smaller than tissue; their optical density, float32 ``shape``."""
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
