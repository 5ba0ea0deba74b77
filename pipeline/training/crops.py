"""Training crops out of large regions: each region is decoded once, then crops are cut from
memory-mapped files.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import IGNORED

_WHITE = 255
_TRIES = 20
"""How often a crop is drawn anew because nothing in it has a class, before it is taken as it is."""


@dataclass(frozen=True, slots=True)
class RegionCache:
    """Regions at the model's pixel size, one after another in two flat files, opened where they are
    used.

    Attributes:
        folder: of ``rgb.bin`` and ``targets.bin``.
        ids: region_id of each.
        offsets: number of pixels before each.
        shapes: height and width of each (px).
    """

    folder: Path
    ids: tuple[str, ...]
    offsets: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def build(
        cls,
        folder: Path,
        key: str,
        regions: Sequence[Region],
        load: Callable[[Region], LabelledPixels],
    ) -> "RegionCache":
        """Decode regions into the cache, one in memory at a time; a cache of the same key and
        regions is used as it is.

        Args:
            folder: made where it is missing.
            key: of all that the pixels depend on.
            regions: in the order that they shall have.
            load: gives a region's pixels.

        Raises:
            UsageError: if a region cannot be read, or there is no room for the files.
        """
        ids, index = tuple(region.region_id for region in regions), folder / "index.json"
        if index.is_file():
            said = json.loads(index.read_text(encoding="utf-8"))
            if said["key"] == key and tuple(said["ids"]) == ids:
                return cls(
                    folder, ids, tuple(said["offsets"]), tuple((h, w) for h, w in said["shapes"])
                )
            index.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        offsets, shapes, done = [], [], 0
        try:
            with (
                (folder / "rgb.bin").open("wb") as rgb_file,
                (folder / "targets.bin").open("wb") as targets_file,
            ):
                for region in regions:
                    pixels = load(region)
                    rgb_file.write(pixels.rgb.tobytes())
                    targets_file.write(pixels.targets.tobytes())
                    height, width = pixels.targets.shape
                    offsets.append(done)
                    shapes.append((height, width))
                    done += height * width
            about = {"key": key, "ids": ids, "offsets": offsets, "shapes": shapes}
            index.write_text(json.dumps(about), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"training data cannot be cached in {folder}: {error}") from error
        return cls(folder, ids, tuple(offsets), tuple(shapes))

    def open(self) -> list[LabelledPixels]:
        """All regions as read-only views of the files; nothing is read before it is looked at. mpp
        is not kept (0).
        """
        pixels = sum(height * width for height, width in self.shapes)
        if not pixels:
            return []
        rgb = np.memmap(self.folder / "rgb.bin", np.uint8, "r", shape=(pixels, 3))
        targets = np.memmap(self.folder / "targets.bin", np.uint8, "r", shape=(pixels,))
        views = []
        for start, (height, width) in zip(self.offsets, self.shapes, strict=True):
            part = slice(start, start + height * width)
            views.append(
                LabelledPixels(
                    rgb[part].reshape(height, width, 3),
                    targets[part].reshape(height, width),
                    mpp=0.0,
                )
            )
        return views


class CropSampler:
    """An endless row of crops; crop ``i`` depends on the seed and on ``i`` alone, so that any part
    can be made again.

    Args:
        regions: to cut from.
        shares: how often each region is taken, relative to the others.
        crop_px: side of a crop.
        variation: of the crops.
        seed: of the row.
    """

    def __init__(
        self,
        regions: Sequence[LabelledPixels],
        shares: Sequence[float],
        crop_px: int,
        variation: Variation,
        seed: int,
    ) -> None:
        self._regions, self._crop_px, self._variation, self._seed = (
            regions,
            crop_px,
            variation,
            seed,
        )
        self._ends = np.cumsum(shares) / np.sum(shares)

    def __call__(self, index: int) -> tuple[UInt8, UInt8]:
        """Pixels uint8 ``[crop_px, crop_px, 3]`` and targets uint8 ``[crop_px, crop_px]`` of crop
        ``index``.
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
    """How often each region is cut from: a source as its share says, within a source by area."""
    area = np.array([height * width for height, width in cache.shapes], float)
    sources = np.array([region.source for region in regions])
    total = {source: area[sources == source].sum() for source in set(sources)}
    return [of_sources[source] * a / total[source] for source, a in zip(sources, area, strict=True)]


def _cut(rng: np.random.Generator, region: LabelledPixels, side_px: int) -> tuple[UInt8, UInt8]:
    """A square from anywhere in a region; where the region is smaller, white and ignored around it."""
    height, width = region.targets.shape
    y, x = (
        int(rng.integers(-(max(0, side_px - n) // 2), max(0, n - side_px) + 1))
        for n in (height, width)
    )
    return cut_padded(region, y, x, side_px)


def cut_padded(region: LabelledPixels, y: int, x: int, side_px: int) -> tuple[UInt8, UInt8]:
    """The square from ``y, x``, uint8 ``[side_px, side_px, 3]`` and ``[side_px, side_px]``; white,
    ignored outside.
    """
    height, width = region.targets.shape
    rows, cols = (
        slice(max(0, y), min(height, y + side_px)),
        slice(max(0, x), min(width, x + side_px)),
    )
    rgb, targets = region.rgb[rows, cols], region.targets[rows, cols]
    if targets.shape == (side_px, side_px):
        return np.asarray(rgb), np.asarray(targets)
    whole = np.full((side_px, side_px, 3), _WHITE, np.uint8)
    known = np.full((side_px, side_px), IGNORED, np.uint8)
    inner = slice(rows.start - y, rows.stop - y), slice(cols.start - x, cols.stop - x)
    whole[inner], known[inner] = rgb, targets
    return whole, known
