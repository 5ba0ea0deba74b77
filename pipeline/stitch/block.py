"""The result of one block (`BlockMask`), and the object that collects it (`BlockBuilder`).

All code here uses the array API. It runs in numpy on the CPU, and in torch on a GPU. Only uint8
arrays leave the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from noctile.pipeline.arrays import Bool, UInt8
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.pixel_labels import PixelLabels, is_host
from noctile.pipeline.plan import HEAT_FACTOR, heat_slice
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.stitch.seams import Seams


@dataclass(frozen=True, slots=True, eq=False)
class BlockMask:
    """The result of one task: labels and maps of one block.

    A cell of a map covers 8 x 8 pixels of the labels.

    Attributes:
        box: position and size of the block in the label map (px).
        labels: class codes, uint8 ``[h, w]``; 0 outside tissue.
        heat: mean tumor probability x 255 of the tissue pixels in each cell, uint8
            ``[ceil(h / 8), ceil(w / 8)]``.
        confidence: mean probability x 255 of the predicted class of the tissue pixels in each
            cell, uint8, same shape as ``heat``.
        analysed: number of tissue pixels in each cell, uint8, 0..64, same shape as ``heat``.
        stats: statistics of the block that show how far its labels can be trusted.
    """

    box: Box
    labels: UInt8
    heat: UInt8
    confidence: UInt8
    analysed: UInt8
    stats: BlockStats


class BlockBuilder:
    """Labels and maps of one block while its tiles arrive.

    Each part is limited to the tissue and summed to cells as soon as it is written, while it is in
    the cache of the processor. Parts without tiles cost nothing, and no map exists at full size.

    Args:
        box: position and size of the block in the label map (px); its corner is that of a core.
        stride_px: side of a core (px), a multiple of the side of a cell.
        codes: label value of each channel.
        tissue: bool ``[box.height, box.width]``; the builder may keep and change it. Pixels outside
            tissue become 0 everywhere.

    Attributes:
        box: position and size of the block in the label map (px).
        whole: ``box``, enlarged to whole cores where the edge of the slide cuts them (px).
    """

    def __init__(self, box: Box, stride_px: int, codes: Sequence[int], tissue: Bool) -> None:
        self.box = box
        beyond = [-n % stride_px for n in tissue.shape]
        self._tissue = np.pad(tissue, [(0, n) for n in beyond]) if any(beyond) else tissue
        self.whole = Box(box.y, box.x, *self._tissue.shape)
        self._codes = codes
        self._xp: Any = None  # array namespace of the device; None before the first tile
        self._labels: Any = None
        self._inside: Any = None
        self._pooled: Any = None
        # True if a tissue pixel is not a number; on a GPU it is read only at the end
        self._invalid: Any = False

    @property
    def started(self) -> bool:
        """True after `start`."""
        return self._xp is not None

    def start(self, first: Any) -> None:
        """Allocate the arrays of the block on the device of the first array that arrives."""
        xp = self._xp = array_api_compat.array_namespace(first)
        device = array_api_compat.device(first)
        height, width = self._tissue.shape
        self._inside = xp.asarray(self._tissue.view(np.uint8), device=device)
        self._labels = xp.zeros((height, width), dtype=xp.uint8, device=device)
        cells = (3, height // HEAT_FACTOR, width // HEAT_FACTOR)
        self._pooled = xp.zeros(cells, dtype=xp.float32, device=device)
        self._lut = xp.asarray(np.asarray(self._codes, np.uint8), device=device)

    def write(self, parts: Sequence[Box], labels: PixelLabels) -> None:
        """Write parts of the block, limited to the tissue.

        Args:
            parts: boxes of equal size in the pixels of the label map, each made of whole cells and
                inside ``whole``.
            labels: labels of the parts, arrays ``[len(parts), h, w]``.
        """
        xp = self._xp
        regions = [part.slices(self.whole) for part in parts]
        inside = xp.stack([self._inside[region] for region in regions])
        codes = self._codes_of(labels.label) * inside
        # a confidence of 0 means NaN: the most probable of 255 classes has at least 1 / 255
        self._invalid = xp.any(labels.confidence < inside) | self._invalid
        maps = xp.stack((inside, labels.tumor * inside, labels.confidence * inside))
        n, height, width = labels.label.shape
        pooled = pool_sums(xp, xp.reshape(maps, (3 * n * height, width)))
        pooled = xp.reshape(pooled, (3, n, height // HEAT_FACTOR, width // HEAT_FACTOR))
        for k, region in enumerate(regions):
            self._labels[region] = codes[k]
            self._pooled[(slice(None), *(heat_slice(pixels) for pixels in region))] = pooled[:, k]

    def leave_out(self, core: Box) -> None:
        """Remove the core of a tile from the tissue; call it before its part is written."""
        region = core.intersect(self.whole).slices(self.whole)
        self._tissue[region] = False
        if self.started:
            self._inside[region] = 0

    def finish(self, seams: Seams) -> BlockMask:
        """The finished block.

        Args:
            seams: labels along the seams between its tiles.

        Raises:
            ValueError: if there is tissue, but no tile was added; or if the output of the network
                is NaN in tissue. A network that needs numbers beyond the range of float16 gives
                NaN on a GPU.
        """
        if not self.started:
            if self._tissue.any():
                raise ValueError(f"{self.box} has tissue, but is without tiles")
            self.start(np.empty(0, np.float32))
        if bool(self._invalid):
            raise ValueError("the output of the network is not a number (NaN)")
        xp, box = self._xp, self.box
        rows, cols = -(-box.height // HEAT_FACTOR), -(-box.width // HEAT_FACTOR)
        count, *sums = self._pooled[:, :rows, :cols]
        cells = xp.where(count > 0, count, 1.0)
        heat, confidence = (to_host(xp.astype(xp.floor(q / cells + 0.5), xp.uint8)) for q in sums)
        analysed = to_host(xp.astype(count, xp.uint8))
        tissue = self._tissue[: box.height, : box.width]
        stats = BlockStats(int(np.count_nonzero(tissue)), *seams.count(tissue, box))
        labels = to_host(self._labels[: box.height, : box.width])
        return BlockMask(box, labels, heat, confidence, analysed, stats)

    def _codes_of(self, channel: Any) -> Any:
        """Label values of channel numbers, uint8 of the same shape."""
        first, xp = self._codes[0], self._xp
        if list(self._codes) == list(range(first, first + len(self._codes))):
            return channel + first  # a table takes forty times as long
        index = channel if is_host(channel) else xp.astype(channel, xp.int64)  # for torch
        found = xp.take(self._lut, xp.reshape(index, (-1,)), axis=0)
        return xp.reshape(found, channel.shape)


def pool_sums(xp: Any, values: Any) -> Any:
    """Sums over cells of 8 x 8 pixels; cells at the edges may be cut.

    Args:
        xp: the array namespace.
        values: uint8 ``[h, w]``.

    Returns:
        float32 ``[ceil(h / 8), ceil(w / 8)]``; exact.
    """
    height, width = values.shape
    rows, cols = -(-height // HEAT_FACTOR), -(-width // HEAT_FACTOR)
    device = array_api_compat.device(values)
    if (rows * HEAT_FACTOR, cols * HEAT_FACTOR) != (height, width):
        whole = xp.zeros((rows * HEAT_FACTOR, cols * HEAT_FACTOR), dtype=xp.uint8, device=device)
        whole[:height, :width] = values
        values = whole
    along_y = xp.sum(
        xp.reshape(values, (rows, HEAT_FACTOR, cols * HEAT_FACTOR)), axis=1, dtype=xp.int16
    )
    ones = xp.ones(HEAT_FACTOR, dtype=xp.float32, device=device)
    # a product with ones is faster than a sum of 8
    along_x = xp.astype(xp.reshape(along_y, (rows * cols, HEAT_FACTOR)), xp.float32) @ ones
    return xp.reshape(along_x, (rows, cols))


def to_host(values: Any) -> UInt8:
    """A numpy array with the values of an array on any device."""
    return np.asarray(array_api_compat.to_device(values, "cpu"))
