"""Training crops: each region is decoded once, and crops are cut from memory-mapped files."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.training.augment import (
    Variation,
    draw_scale,
    resize_crop,
    turn_crop,
    vary_appearance,
)
from noctile.pipeline.truth.points import mark_points
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import IGNORED

_WHITE = 255

Shape = tuple[int, int]
"""Height and width (px)."""

Points = tuple[tuple[int, int], ...]
"""Pixels (y, x) that hold points."""

_POINTS_SHARE = 0.5
"""Share of the crops of a region with points that have one of them at their centre."""

_TRIES = 20
"""Largest number of draws for one crop; the last is taken even if no pixel in it has a class."""


@dataclass(frozen=True, slots=True)
class RegionCache:
    """Decoded regions at the model's pixel size, one after another in two flat files.

    The object holds no open file, so that it can be sent to another process.

    Attributes:
        folder: folder of ``rgb.bin`` and ``targets.bin``.
        ids: region_id of each region.
        offsets: number of pixels before each region.
        shapes: height and width of each region (px).
        points: y and x (px) of the points of each region, whose pixels are marked in the targets
            (`mark_points`).
    """

    folder: Path
    ids: tuple[str, ...]
    offsets: tuple[int, ...]
    shapes: tuple[Shape, ...]
    points: tuple[Points, ...]

    @classmethod
    def build(
        cls,
        folder: Path,
        key: str,
        regions: Sequence[Region],
        load: Callable[[Region], LabelledPixels],
    ) -> "RegionCache":
        """Decode regions into the cache, one in memory at a time.

        A cache with the same key and regions is used as it is.

        Args:
            folder: folder of the cache; made if it is missing.
            key: hash of all settings on which the pixels depend.
            regions: regions in the order of the cache.
            load: gives a region's pixels.

        Raises:
            UsageError: if a region cannot be read, or the disk has no space for the files.
        """
        ids, index = tuple(region.region_id for region in regions), folder / "index.json"
        if index.is_file():
            known = json.loads(index.read_text(encoding="utf-8"))
            if known["key"] == key and tuple(known["ids"]) == ids:
                shapes = tuple((h, w) for h, w in known["shapes"])
                points = tuple(tuple((y, x) for y, x in of_one) for of_one in known["points"])
                return cls(folder, ids, tuple(known["offsets"]), shapes, points)
            index.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            shapes, points = _write_pixels(folder, map(load, regions))
            offsets = (0, *accumulate(height * width for height, width in shapes))[:-1]
            content = {"key": key, "ids": ids, "offsets": offsets, "shapes": shapes}
            content["points"] = points
            index.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"training data cannot be cached in {folder}: {error}. Free space on that disk, or "
                "choose another folder"
            ) from error
        return cls(folder, ids, offsets, shapes, points)

    def open(self) -> list[LabelledPixels]:
        """All regions as read-only views of the files; pixels are read on access.

        The cache does not hold the pixel size, so that mpp of all regions is 0.
        """
        pixels = sum(height * width for height, width in self.shapes)
        if not pixels:
            return []
        rgb = np.memmap(self.folder / "rgb.bin", np.uint8, "r", shape=(pixels, 3))
        targets = np.memmap(self.folder / "targets.bin", np.uint8, "r", shape=(pixels,))
        views = []
        for start, (height, width), points in zip(
            self.offsets, self.shapes, self.points, strict=True
        ):
            part = slice(start, start + height * width)
            views.append(
                LabelledPixels(
                    rgb[part].reshape(height, width, 3),
                    targets[part].reshape(height, width),
                    mpp=0.0,
                    points=np.array(points, float) if points else None,
                )
            )
        return views


class CropSampler:
    """Endless sequence of crops.

    Crop ``i`` depends only on the seed and on ``i``, so that any part can be repeated.

    Args:
        regions: regions from which crops are cut.
        shares: relative frequency of each region.
        crop_px: side of a crop (px).
        variation: limits of the augmentation.
        seed: seed of the sequence.
    """

    def __init__(
        self,
        regions: Sequence[LabelledPixels],
        shares: Sequence[float],
        crop_px: int,
        variation: Variation,
        seed: int,
    ) -> None:
        self._regions, self._crop_px = regions, crop_px
        self._variation, self._seed = variation, seed
        self._ends = np.cumsum(shares) / np.sum(shares)

    def __call__(self, index: int) -> tuple[UInt8, UInt8]:
        """Crop ``index``: pixels uint8 ``[n, n, 3]`` and targets uint8 ``[n, n]``, n = crop_px.

        In the pixels of points `POINT` is added to the target.
        """
        rng = np.random.default_rng((self._seed, index))
        for _ in range(_TRIES):
            region = self._regions[int(np.searchsorted(self._ends, rng.random(), side="right"))]
            side_px = round(self._crop_px / draw_scale(rng, self._variation))
            rgb, targets = _cut(rng, region, side_px)
            if (targets != IGNORED).any():
                break
        rgb, targets = resize_crop(*turn_crop(rng, rgb, targets), self._crop_px)
        return vary_appearance(rng, rgb, self._variation), targets


def region_shares(
    regions: Sequence[Region], cache: RegionCache, of_sources: dict[str, float]
) -> list[float]:
    """Relative frequency of each region in the crops: the share of its source, divided by area.

    Args:
        regions: the regions of a cache.
        cache: cache with the shapes of the regions.
        of_sources: share of each source, by its name.
    """
    area = np.array([height * width for height, width in cache.shapes], float)
    sources = np.array([region.source for region in regions])
    total = {source: area[sources == source].sum() for source in set(sources)}
    return [of_sources[source] * a / total[source] for source, a in zip(sources, area, strict=True)]


def _write_pixels(
    folder: Path, regions: Iterable[LabelledPixels]
) -> tuple[tuple[Shape, ...], tuple[Points, ...]]:
    """Write regions one after another into the two flat files; give their shapes and points."""
    shapes, points = [], []
    with (
        (folder / "rgb.bin").open("wb") as rgb_file,
        (folder / "targets.bin").open("wb") as targets_file,
    ):
        for pixels in regions:
            rgb_file.write(pixels.rgb.tobytes())
            targets, found = pixels.targets, pixels.points
            if found is not None:
                targets = mark_points(targets, found, pixels.mpp)
            targets_file.write(targets.tobytes())
            height, width = targets.shape
            shapes.append((height, width))
            points.append(() if found is None else tuple((int(y), int(x)) for y, x in found))
    return tuple(shapes), tuple(points)


def _cut(rng: np.random.Generator, region: LabelledPixels, side_px: int) -> tuple[UInt8, UInt8]:
    """Cut a square at random; around a smaller region it is white and ignored.

    Half of the squares of a region with points have one of them at their centre.
    """
    if region.points is not None and rng.random() < _POINTS_SHARE:
        y, x = map(int, rng.choice(region.points))
        return cut_padded(region, y - side_px // 2, x - side_px // 2, side_px)
    height, width = region.targets.shape
    y, x = (
        int(rng.integers(-(max(0, side_px - n) // 2), max(0, n - side_px) + 1))
        for n in (height, width)
    )
    return cut_padded(region, y, x, side_px)


def cut_padded(region: LabelledPixels, y: int, x: int, side_px: int) -> tuple[UInt8, UInt8]:
    """Cut a square from a region; outside of the region it is white and ignored.

    Args:
        region: pixels and classes.
        y: first row of the square (px); may be negative.
        x: first column of the square (px); may be negative.
        side_px: side of the square (px).

    Returns:
        Pixels uint8 ``[side_px, side_px, 3]`` and targets uint8 ``[side_px, side_px]``.
    """
    height, width = region.targets.shape
    rows, cols = (
        slice(max(0, y), min(height, y + side_px)),
        slice(max(0, x), min(width, x + side_px)),
    )
    rgb, targets = region.rgb[rows, cols], region.targets[rows, cols]
    if targets.shape == (side_px, side_px):
        return np.asarray(rgb), np.asarray(targets)
    padded_rgb = np.full((side_px, side_px, 3), _WHITE, np.uint8)
    padded_targets = np.full((side_px, side_px), IGNORED, np.uint8)
    inner = slice(rows.start - y, rows.stop - y), slice(cols.start - x, cols.stop - x)
    padded_rgb[inner], padded_targets[inner] = rgb, targets
    return padded_rgb, padded_targets
