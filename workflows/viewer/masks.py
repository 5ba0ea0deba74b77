"""Tiles of a slide's label map and heat maps, as PNG with a palette."""

import io
import threading
from collections.abc import Collection, Sequence
from functools import cache
from itertools import product

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import Bool, UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import HEAT_FACTOR
from noctile.workflows.viewer.layers import TILE_PX, Layer

MAPS = ("tumor", "confidence")
"""Heat maps, in the order in which they are stored."""

RAMPS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "tumor": ((255, 255, 229), (254, 227, 145), (254, 153, 41), (204, 76, 2), (102, 37, 6)),
    "confidence": ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)),
}
"""Colours of each heat map from 0 to 1, evenly spaced: YlOrBr of ColorBrewer, and viridis."""

_STORED = 1
"""Coarsest level of the heat maps whose tiles are made from the stored values. The coarser levels
are in memory, with 1/16 of the values and less."""

_PNG_LEVEL = 1
"""Compression of the PNG files: label maps hardly get smaller with more, and it takes longer."""


class LabelTiles:
    """Tiles of a label map.

    Args:
        store: masks of the slide.
    """

    def __init__(self, store: MaskStore) -> None:
        self._store = store
        self.layer = Layer(store.layout.frame, store.layout.levels)

    def tile(self, tile: tuple[int, int, int], shown: Collection[int] | None, style: str) -> bytes:
        """Draw a tile as PNG: a colour for each class, transparent elsewhere.

        Args:
            tile: level, row and column.
            shown: codes of the classes that are visible; None for all.
            style: "fill", or "outline" for the pixels of a class beside another label.

        Raises:
            NoTileError: if there is no such tile.
            StoreError: if the label map cannot be read.
        """
        box = self.layer.box(*tile)
        labels = self._outlines(box, tile[0]) if style == "outline" else self._read(box, tile[0])
        return png(labels, *_class_palette(self._store.layout.classes, shown))

    def _read(self, box: Box, level: int) -> UInt8:
        return self._store.read(box, level)

    def _outlines(self, box: Box, level: int) -> UInt8:
        """Labels of a box that have a neighbour with another one; the others are 0.

        Labels outside the label map count as 0.
        """
        around = box.grow(1)
        inside = around.intersect(self.layer.level(level).box)
        labels = np.zeros((around.height, around.width), np.uint8)
        labels[inside.slices(around)] = self._read(inside, level)
        return np.where(_at_edge(labels), labels[1:-1, 1:-1], np.uint8(0))


def _at_edge(labels: UInt8) -> Bool:
    """Tell for all but the outermost pixels if one of their 4 neighbours has another label."""
    middle = labels[1:-1, 1:-1]
    edge: Bool = (labels[:-2, 1:-1] != middle) | (labels[2:, 1:-1] != middle)
    edge |= (labels[1:-1, :-2] != middle) | (labels[1:-1, 2:] != middle)
    return edge


class HeatTiles:
    """Tiles of the heat maps. Several threads may use it at once.

    Args:
        store: masks of the slide.

    Raises:
        StoreError: if there are no heat maps, or they cannot be opened.
    """

    def __init__(self, store: MaskStore) -> None:
        store.heat_array()
        self._store, self._lock = store, threading.Lock()
        self._coarse: list[UInt8] = []
        self.layer = Layer.of(store.layout.heat_frame)

    def tile(self, name: str, tile: tuple[int, int, int]) -> bytes:
        """Draw a tile as PNG: a colour for each value, transparent where nothing was analysed.

        Args:
            name: one of `MAPS`.
            tile: level, row and column.

        Raises:
            NoTileError: if there is no such tile.
            StoreError: if the heat maps cannot be read.
        """
        d, box = tile[0], self.layer.box(*tile)
        maps = self._stored(box, d) if d <= _STORED else self._coarse_level(d)[:, *box.slices()]
        analysed = maps[MAPS.index("confidence")] > 0
        values = np.where(analysed, np.maximum(maps[MAPS.index(name)], 1), np.uint8(0))
        return png(values, _ramp(RAMPS[name]), bytes([0] + [255] * 255))

    def _stored(self, box: Box, d: int) -> UInt8:
        """Both heat maps in a box of a level, made from the stored values: ``[2, h, w]``."""
        side = HEAT_FACTOR * 2**d
        fine = Box(box.y * side, box.x * side, box.height * side, box.width * side)
        maps = np.stack(self._store.read_heat_maps(fine.intersect(self._store.layout.frame.box)))
        for _ in range(d):
            maps = halve_heat(maps)
        return maps

    def _coarse_level(self, d: int) -> UInt8:
        """Both heat maps of a level that is kept in memory: ``[2, h, w]``."""
        with self._lock:
            if not self._coarse:
                self._coarse.append(self._read_all(_STORED + 1))
                while len(self._coarse) < self.layer.levels - _STORED - 1:
                    self._coarse.append(halve_heat(self._coarse[-1]))
            return self._coarse[d - _STORED - 1]

    def _read_all(self, d: int) -> UInt8:
        """Both heat maps of a level, read in parts so that little memory is used."""
        whole = self.layer.level(d).box
        maps = np.zeros((2, whole.height, whole.width), np.uint8)
        for y, x in product(range(0, whole.height, TILE_PX), range(0, whole.width, TILE_PX)):
            box = Box(y, x, TILE_PX, TILE_PX).intersect(whole)
            maps[:, *box.slices()] = self._stored(box, d)
        return maps


def halve_heat(maps: UInt8) -> UInt8:
    """Replace each 2 x 2 values by the mean of those that were analysed.

    Args:
        maps: both heat maps, uint8 ``[2, h, w]``; a confidence of 0 is not analysed.

    Returns:
        uint8 ``[2, ceil(h / 2), ceil(w / 2)]``.
    """
    _, height, width = maps.shape
    even = np.pad(maps, ((0, 0), (0, height % 2), (0, width % 2)))
    sums = np.zeros((2, even.shape[1] // 2, even.shape[2] // 2), np.uint16)
    counts = np.zeros(sums.shape[1:], np.uint16)
    for dy, dx in product((0, 1), (0, 1)):
        part = even[:, dy::2, dx::2]
        analysed = part[MAPS.index("confidence")] > 0
        sums += part * analysed
        counts += analysed
    means: UInt8 = ((sums + counts // 2) // np.maximum(counts, 1)).astype(np.uint8)
    return means


def png(pixels: UInt8, palette: Sequence[int], alpha: bytes) -> bytes:
    """Encode a picture with a palette.

    Args:
        pixels: uint8 ``[h, w]``, index of each pixel's colour.
        palette: red, green and blue of each colour, one after the other.
        alpha: opacity of each colour, 0..255.
    """
    image = Image.fromarray(pixels)
    image.putpalette(palette)
    out = io.BytesIO()
    image.save(out, "PNG", transparency=alpha, compress_level=_PNG_LEVEL)
    return out.getvalue()


def _class_palette(
    classes: Sequence[ClassInfo], shown: Collection[int] | None
) -> tuple[list[int], bytes]:
    """Palette of the label map, in which all but the shown classes are transparent."""
    palette, alpha = [0] * 768, bytearray(256)
    for info in classes:
        palette[3 * info.code : 3 * info.code + 3] = info.color
        alpha[info.code] = 255 if shown is None or info.code in shown else 0
    return palette, bytes(alpha)


@cache
def _ramp(colours: tuple[tuple[int, int, int], ...]) -> list[int]:
    """Palette of 256 colours between evenly spaced ones."""
    at = np.linspace(0, 255, len(colours))
    channels = [np.interp(np.arange(256), at, channel) for channel in zip(*colours, strict=True)]
    palette: list[int] = np.rint(np.stack(channels, axis=1)).astype(int).ravel().tolist()
    return palette
