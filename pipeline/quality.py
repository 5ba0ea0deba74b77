"""Quality flags of a slide's mask: the thresholds, and the counts behind them.

A flag changes no mask. It asks a person to look at the preview before using the slide's figures.
(docs/flags.md)

======================  ==========================================================================
flag                    raised when
======================  ==========================================================================
``unreadable_tissue``   ``unreadable_fraction`` is above 0; above `MAX_UNREADABLE` the slide fails
``blurred``             ``blurred_fraction`` is above `MAX_BLURRED_FRACTION`
``low_confidence``      ``mean_confidence`` is nearer to a guess than `MIN_CERTAINTY`
``seams``               ``seam_disagreement`` is above `MAX_SEAM_DISAGREEMENT`
======================  ==========================================================================

Other flags: of the tissue in `noctile.pipeline.tissue` and `ink`, of the pixel size in
`noctile.pipeline.slides.pixel_size`, of the channel order in
`noctile.pipeline.slides.channel_order`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from noctile.pipeline.arrays import Bool, UInt8

Position = tuple[int, int]

MAX_UNREADABLE = 0.02
"""Largest share of the tissue that may be unreadable (0..1); above it the slide fails.

A rule, not a measurement: areas with more of the tissue missing are not the slide's.
"""

MAX_BLURRED_FRACTION = 0.25
"""Largest share of tiles out of focus (0..1) that does not raise the flag ``blurred``.

Fat, mucus and necrosis have little detail at any focus, and a small region of them must not raise
the flag. On the tissue listed under `MIN_SHARPNESS` the share was 0, and 1 after a blur of 1.5 um
or more.
"""

MIN_SHARPNESS = 0.35
"""Sharpness (variance of the Laplacian / variance) below which a tile is out of focus.

Measured on 53 squares of 192 um from CMU-1-Small-Region, the BCSS regions 1008 and 1015, and 8
CAMELYON tiles: 0.50 to 4.1 as they are. Blurred by a Gaussian of 1.5 um, with noise and JPEG at
quality 75 or 30 on top, they have 0.01 to 0.26, and the shipped model changes 8 to 40 % of their
labels. Blurred by 1 um they have 0.04 to 0.55, and it changes 4 to 15 %.
"""

SHARPNESS_MPP = 1.0
"""Pixel size at which sharpness is measured (um), or the model's pixel size if that is larger.

Averaging to this size removes the noise of camera and JPEG, which looks like detail. The thumbnail
(8 um) is too coarse: it looks the same at any focus.
"""

MIN_SHARPNESS_PX = 4096
"""Smallest number of tissue pixels whose sharpness is measured (px): a square of 64 um."""

MIN_CERTAINTY = 0.6
"""Smallest certainty that does not raise the flag ``low_confidence``.

Certainty is (mean confidence - guess) / (1 - guess), where a guess is 1 / classes. For two classes
the threshold is a mean confidence of 0.80. Measured with the shipped model: confidences of 0.91 to
0.96 on CMU-1-Small-Region and the BCSS regions 1008 and 1015, 0.89 to 1.00 on single CAMELYON
tiles. Tissue in wrong colours, at half or twice the pixel size, blurred or inverted had 0.81 to
1.00 with an earlier model: a network can be sure and wrong.
"""

MAX_SEAM_DISAGREEMENT = 0.05
"""Largest ``seam_disagreement`` (0..1) that does not raise the flag ``seams``.

It is the share of pixels along seams that two tiles label differently. Measured with the shipped
model on CMU-1-Small-Region and the BCSS regions 1008 and 1015: 0.005 to 0.013 at its overlap of
128 px, 0.032 to 0.094 at 16 px.
"""


@dataclass(frozen=True, slots=True)
class CoreCount:
    """Counts of pixels in the core of one tile, cut to the frame.

    Attributes:
        row: row of the tile in the grid.
        col: column of the tile in the grid.
        pixels: number of pixels of each class, in the card's order.
        confidence: sum over the tissue pixels of the predicted class's probability x 255, taken
            from the confidence map; None if the map belongs to other classes (regrouped results).
    """

    row: int
    col: int
    pixels: tuple[int, ...]
    confidence: int | None


@dataclass(frozen=True, slots=True)
class BlockStats:
    """Statistics of one block: counts, so that those of several blocks add up in any order.

    Attributes:
        analysed_px: number of tissue pixels that have a label.
        seam_px: number of pixels along seams that two tiles have predicted, all of them tissue.
        seam_differing_px: number of ``seam_px`` that the two tiles label differently.
        unread: grid positions of the block's own tiles that could not be read, sorted.
        unread_px: number of tissue pixels in the cores of ``unread``, which have no label.
        focus_tiles: number of tiles whose sharpness was measured.
        blurred_tiles: number of ``focus_tiles`` that were out of focus.
        cores: counts of each core of the block that may have tissue, sorted by position.
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
        """Convert to plain values.

        A core becomes ``[row, col, confidence, pixels of the first class, of the second, ...]``.
        """
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **plain,
            "cores": [[core.row, core.col, core.confidence, *core.pixels] for core in self.cores],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "BlockStats":
        """Read the values that `to_json` made."""
        unread = tuple((row, col) for row, col in values["unread"])
        cores = tuple(
            CoreCount(row, col, tuple(pixels), confidence)
            for row, col, confidence, *pixels in values["cores"]
        )
        return cls(**{**values, "unread": unread, "cores": cores})


@dataclass(frozen=True, slots=True)
class SlideQuality:
    """Figures of one slide that tell how far its mask can be trusted.

    Attributes:
        unreadable_fraction: tissue pixels that could not be read / all tissue pixels, 0..1; 0
            without tissue.
        blurred_fraction: tiles out of focus / tiles whose sharpness was measured, 0..1; None if
            none was measured.
        seam_disagreement: share of the pixels along seams that two tiles label differently, 0..1;
            None without seams, or if tiles do not overlap.
    """

    unreadable_fraction: float
    blurred_fraction: float | None
    seam_disagreement: float | None

    @classmethod
    def from_blocks(cls, blocks: Iterable[BlockStats]) -> "SlideQuality":
        """Sum the statistics of all blocks of a slide, in any order."""
        blocks = list(blocks)
        unread = sum(b.unread_px for b in blocks)
        return cls(
            _ratio(unread, unread + sum(b.analysed_px for b in blocks)) or 0.0,
            _ratio(sum(b.blurred_tiles for b in blocks), sum(b.focus_tiles for b in blocks)),
            _ratio(sum(b.seam_differing_px for b in blocks), sum(b.seam_px for b in blocks)),
        )

    def flags(self, mean_confidence: float | None, n_classes: int) -> list[str]:
        """Return the flags that these figures raise.

        Args:
            mean_confidence: mean probability of the predicted class over the tissue, 0..1; None
                without tissue.
            n_classes: number of the model's classes; a guess has the confidence ``1 / n_classes``.
        """
        guess = 1 / n_classes
        raised = {
            "unreadable_tissue": self.unreadable_fraction > 0,
            "blurred": (self.blurred_fraction or 0.0) > MAX_BLURRED_FRACTION,
            "low_confidence": mean_confidence is not None
            and mean_confidence - guess < MIN_CERTAINTY * (1 - guess),
            "seams": (self.seam_disagreement or 0.0) > MAX_SEAM_DISAGREEMENT,
        }
        return [name for name, is_raised in raised.items() if is_raised]


def mpp_flags(mpp_source: str) -> list[str]:
    """Return the flags that the source of a slide's pixel size raises."""
    return ["mpp_estimated"] if mpp_source == "objective power" else []


def sharpness(pixels: UInt8, tissue: Bool, mpp: float) -> float | None:
    """Measure focus: variance of the Laplacian / variance of the green channel, over the tissue.

    The variance of the Laplacian is the focus measure of Pech-Pacheco et al. (ICPR 2000). Divided
    by the variance it does not depend on the strength of the stain.

    Args:
        pixels: uint8 ``[h, w, 3]``, RGB.
        tissue: bool ``[h, w]``, pixels that count.
        mpp: pixel size (um); pixels are averaged to `SHARPNESS_MPP`.

    Returns:
        0 or more, about 1 in focus. None if there is less tissue than `MIN_SHARPNESS_PX`, or all
        pixels have one colour.
    """
    factor = max(1, round(SHARPNESS_MPP / mpp))
    height, width = (n // factor * factor for n in tissue.shape)
    inside = tissue[factor // 2 : height : factor, factor // 2 : width : factor][1:-1, 1:-1]
    if np.count_nonzero(inside) < MIN_SHARPNESS_PX:
        return None
    green = Image.fromarray(np.ascontiguousarray(pixels[:height, :width, 1])).reduce(factor)
    values = np.asarray(green, np.float32)
    centre = values[1:-1, 1:-1]
    beside = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    contrast = float(centre[inside].var())
    return float((4 * centre - beside)[inside].var()) / contrast if contrast else None


def _ratio(part: int, whole: int) -> float | None:
    """Return part / whole, or None if the whole is 0."""
    return part / whole if whole else None
