"""Smooth random fields, masks, and points in a mask."""

import numpy as np
from PIL import Image
from scipy import ndimage

from noctile.pipeline.arrays import Bool, Float32


def noise(
    rng: np.random.Generator, shape: tuple[int, int], scale_px: float, octaves: int = 1
) -> Float32:
    """Draw a smooth random field.

    Args:
        rng: random number generator.
        shape: rows and columns (px).
        scale_px: distance over which the field changes (px). Each further octave halves the
            distance and the amplitude.
        octaves: number of scales that are summed.

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


def highest(field: Float32, within: Bool, share: float) -> Bool:
    """Mask of the pixels with the highest values of a field.

    Args:
        field: the field, float32 ``[h, w]``.
        within: mask of the pixels to choose from.
        share: share of those pixels, 0..1.
    """
    if share <= 0 or not within.any():
        return np.zeros(field.shape, bool)
    return within & (field > np.quantile(field[within][::7], max(0.0, 1 - share)))


def tidy(mask: Bool, smallest_px: float) -> Bool:
    """Remove small islands and holes from a mask.

    Args:
        mask: the mask.
        smallest_px: size of the smallest island that stays (px). Holes stay from half of it up.
    """
    for value, least in ((True, smallest_px), (False, smallest_px / 2)):
        pieces, _ = ndimage.label(mask == value)
        sizes = np.bincount(pieces.ravel())
        small = sizes < least
        small[0] = False
        mask = mask ^ small[pieces]
    return mask


def blurred(mask: Bool, sigma_px: float) -> Float32:
    """Blur a mask on a coarser grid, with a spacing of a quarter of ``sigma_px``."""
    step = max(1, int(sigma_px / 4))
    small = Image.fromarray(mask.astype(np.float32)).reduce(step)
    soft = ndimage.gaussian_filter(np.asarray(small), sigma_px / step, mode="nearest")
    size = mask.shape[1], mask.shape[0]
    box = (0, 0, min(size[0] / step, small.width), min(size[1] / step, small.height))
    return np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC, box=box))


def soften(mask: Bool, sigma_px: float) -> Float32:
    """Blur a mask on its own grid."""
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma_px)


def scatter(rng: np.random.Generator, mask: Bool, spacing_px: float, keep: float = 1.0) -> Float32:
    """Scatter points over a mask, on a jittered hexagonal grid.

    Args:
        rng: random number generator.
        mask: mask in which the points lie.
        spacing_px: distance between neighbouring points (px).
        keep: share of the points that are kept, 0..1.

    Returns:
        y and x of the points (px), float32 ``[n, 2]``.
    """
    rows, cols = int(mask.shape[0] / spacing_px / 0.87) + 2, int(mask.shape[1] / spacing_px) + 2
    r, c = np.mgrid[:rows, :cols].astype(np.float32)
    points = np.stack([r * 0.87, c + 0.5 * (r % 2)], axis=-1).reshape(-1, 2)
    points = (points + rng.normal(0, 0.17, points.shape)) * spacing_px
    points = points[rng.random(len(points)) < keep]
    y, x = points.astype(int).T
    inside = (y >= 0) & (x >= 0) & (y < mask.shape[0]) & (x < mask.shape[1])
    inside[inside] = mask[y[inside], x[inside]]
    return np.asarray(points[inside], np.float32)
