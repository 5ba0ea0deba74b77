"""How far to trust a slide's mask: what each block leaves beside its labels, and the flags that
come of it.

A flag does not change a mask. It says that somebody should look before using its figures. Each
threshold stands here with what it was measured on; the README has the table.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Position = tuple[int, int]

MAX_UNREADABLE = 0.02
"""Most of the tissue (share) that may be unread in a slide that is done; above, its areas are not
the slide's."""

FOCUS_MPP = 1.0
"""Focus is judged at this pixel size (um), or at the model's where that is coarser: averaging takes
out the noise of camera and JPEG, which looks like detail. The overview (8 um) is too coarse: it
looks the same at any focus."""

MIN_FOCUS_PX = 4096
"""Fewer pixels than a square of 64 um has say nothing of focus."""

MIN_SHARPNESS = 0.35
"""Tissue with less is out of focus.

Measured on 53 cores of 192 um: CMU-1-Small-Region, BCSS 1008 and 1015, 8 CAMELYON tiles have 0.50
to 4.1 as they are. Blurred by a Gaussian of 1.5 um, with noise and JPEG at quality 75 or 30 on top,
they have 0.01 to 0.26, and the shipped model changes its mind on 8 to 40 % of their pixels; at 1 um
0.04 to 0.55 and 4 to 15 %.
"""

MAX_BLURRED = 0.25
"""Most of the tiles (share) that may be out of focus: fat, mucus and necrosis have little detail at
any focus, and one such place is no alarm; on the tissue above the share is 0 as it is, and 1 from
1.5 um on."""

MIN_CERTAINTY = 0.6
"""Mean confidence is low below this, counted from a guess (0) to certainty (1); 0.80 for two
classes.

Measured with the shipped model: 0.80 to 0.91 (a confidence of 0.90 to 0.95) on CMU-1-Small-Region
and the two regions, 0.66 to 0.91 on single tiles of CAMELYON. Tissue in wrong colours, at half or
twice the pixel size, blurred or inverted has 0.61 to 1.00: a network that is sure can be wrong.
"""

MAX_SEAM_DISAGREEMENT = 0.05
"""Most of the pixels along seams (share) that two tiles may label differently.

Measured with the shipped model on CMU-1-Small-Region and the two regions: 0.014 to 0.020 at its
overlap of 128 px, 0.034 to 0.098 at 16.
"""


@dataclass(frozen=True, slots=True)
class CoreCount:
    """What stands in the core of one tile, cut to the frame.

    Attributes:
        row: of the tile in the grid.
        col: likewise.
        pixels: of each class, in the card's order.
        confidence: probability of the winning class x 255, summed over the tissue pixels, as the
            maps have it.
    """

    row: int
    col: int
    pixels: tuple[int, ...]
    confidence: int


@dataclass(frozen=True, slots=True)
class BlockStats:
    """What a block leaves beside its masks. Counts only, so that blocks add up in any order.

    Attributes:
        analysed_px: tissue pixels that have a label.
        seam_px: pixels along seams that two tiles were compared at, all of them tissue.
        seam_differing_px: those that the two would label differently.
        unread: grid positions of the block's own tiles that could not be read, sorted.
        unread_px: tissue pixels in their cores, which have no label.
        focus_tiles: tiles whose focus was judged.
        blurred_tiles: those that were out of focus.
        cores: what stands in each core of the block that may have tissue, sorted.
    """

    analysed_px: int
    seam_px: int
    seam_differing_px: int
    unread: tuple[Position, ...] = ()
    unread_px: int = 0
    focus_tiles: int = 0
    blurred_tiles: int = 0
    cores: tuple[CoreCount, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; a core is ``[row, col, confidence, pixels of the first class, of the
        second, ...]``.
        """
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **plain,
            "cores": [[core.row, core.col, core.confidence, *core.pixels] for core in self.cores],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "BlockStats":
        """What `to_json` made, read from a file."""
        unread = tuple((row, col) for row, col in values["unread"])
        cores = tuple(
            CoreCount(row, col, tuple(pixels), sure) for row, col, sure, *pixels in values["cores"]
        )
        return cls(**{**values, "unread": unread, "cores": cores})


@dataclass(frozen=True, slots=True)
class SlideQuality:
    """The same of a slide.

    Attributes:
        unreadable_fraction: tissue whose pixels could not be read / all tissue, 0..1; 0 without
            tissue.
        blurred_fraction: tiles out of focus / tiles whose focus was judged, 0..1; None if none was.
        seam_disagreement: share of the pixels compared along seams that two tiles label
            differently, 0..1; None without seams, or if tiles do not overlap.
    """

    unreadable_fraction: float
    blurred_fraction: float | None
    seam_disagreement: float | None

    @classmethod
    def of(cls, blocks: Iterable[BlockStats]) -> "SlideQuality":
        """Of a slide's blocks, in any order."""
        blocks = list(blocks)
        unread = sum(b.unread_px for b in blocks)
        return cls(
            _share(unread, unread + sum(b.analysed_px for b in blocks)) or 0.0,
            _share(sum(b.blurred_tiles for b in blocks), sum(b.focus_tiles for b in blocks)),
            _share(sum(b.seam_differing_px for b in blocks), sum(b.seam_px for b in blocks)),
        )

    def flags(self, mean_confidence: float | None, n_classes: int) -> list[str]:
        """The flags that these figures raise.

        Args:
            mean_confidence: of the winning class over tissue, 0..1; None without tissue.
            n_classes: of the model; of as many, a guess has the confidence ``1 / n_classes``.
        """
        guess = 1 / n_classes
        raised = {
            "unreadable_tissue": self.unreadable_fraction > 0,
            "blurred": (self.blurred_fraction or 0.0) > MAX_BLURRED,
            "low_confidence": mean_confidence is not None
            and mean_confidence - guess < MIN_CERTAINTY * (1 - guess),
            "seams": (self.seam_disagreement or 0.0) > MAX_SEAM_DISAGREEMENT,
        }
        return [name for name, is_raised in raised.items() if is_raised]


def sharpness(pixels: UInt8, tissue: Bool, mpp: float) -> float | None:
    """How much of the contrast is between neighbouring pixels: variance of the Laplacian /
    variance, of green.

    The variance of the Laplacian is the focus measure of Pech-Pacheco et al. (ICPR 2000); divided
    by the variance it does not depend on how strong the stain is.

    Args:
        pixels: uint8 ``[h, w, 3]``, RGB.
        tissue: bool ``[h, w]``, which of them count.
        mpp: their size (um); they are averaged up to `FOCUS_MPP`.

    Returns:
        0 upwards, about 1 where in focus; None for less tissue than `MIN_FOCUS_PX`, or where all is
        of one colour.
    """
    factor = max(1, round(FOCUS_MPP / mpp))
    height, width = (n // factor * factor for n in tissue.shape)
    inside = tissue[factor // 2 : height : factor, factor // 2 : width : factor][1:-1, 1:-1]
    if np.count_nonzero(inside) < MIN_FOCUS_PX:
        return None
    green = Image.fromarray(np.ascontiguousarray(pixels[:height, :width, 1])).reduce(factor)
    values = np.asarray(green, np.float32)
    centre = values[1:-1, 1:-1]
    beside = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    contrast = float(centre[inside].var())
    return float((4 * centre - beside)[inside].var()) / contrast if contrast else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
