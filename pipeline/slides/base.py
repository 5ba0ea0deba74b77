"""Description of a slide, `SlideInfo`, and the protocol of its pixels, `SlideReader`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box, Frame

MppSource = Literal["user", "metadata", "file name", "tiff tags", "objective power"]
"""Source of a pixel size. The last one is an estimate (10 / power) and is flagged as such."""


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """Properties of a slide that are known before its pixels are read.

    Attributes:
        slide_id: name that is unique in a run and safe as a folder name.
        path: path of the file as the user gave it.
        fingerprint: short hash of the file's size and sampled content. It changes when the file
            does.
        frame: extent (px) and pixel size (um) of level 0, cut to the bounds if the file states any.
        levels: frames of all levels, finest first; ``levels[0] == frame``.
        vendor: scanner or format family, as the reader library names it.
        reader: name of the reader that serves this file.
        mpp_source: source of the pixel size.
        compression: codec of level 0 ("jpeg", "jpeg2000", ...), or "unknown".
        objective_power: nominal magnification of the scanner. It is recorded and never used as
            geometry.
        bounds: part of the file's own level 0 that ``frame`` covers (px). Its y and x are the
            offset of ``frame``.
    """

    slide_id: str
    path: Path
    fingerprint: str
    frame: Frame
    levels: tuple[Frame, ...]
    vendor: str
    reader: str
    mpp_source: MppSource
    compression: str
    objective_power: float | None
    bounds: Box


class SlideReader(Protocol):
    """Pixels of one open slide.

    Several threads may call a reader at once. A reader is never pickled: each process opens its
    own.
    """

    @property
    def info(self) -> SlideInfo:
        """Description of the slide."""
        ...

    @property
    def bgr(self) -> bool:
        """True if the file stores its channels in BGR order. ``read`` returns RGB in both cases."""
        ...

    @property
    def flags(self) -> tuple[str, ...]:
        """Quality flags of the file's channel order; empty if it is RGB without a doubt."""
        ...

    def read(self, box: Box, mpp: float) -> UInt8:
        """Read the pixels of a box at any pixel size.

        The pixels come from the nearest finer level and are averaged by area. Every pixel of that
        level counts, none is skipped. The value of a pixel does not depend on the box.

        Args:
            box: region in pixels of ``info.frame.at(mpp)``.
            mpp: pixel size (um).

        Returns:
            RGB, uint8 ``[box.height, box.width, 3]``; white outside the slide and where the file is
            transparent.

        Raises:
            SlideReadError: if the file's pixels cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Release the file. Reading afterwards is an error."""
        ...
