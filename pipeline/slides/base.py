"""What a slide is to the rest of the pipeline: `SlideInfo` and the `SlideReader` protocol."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box, Frame

MppSource = Literal["user", "metadata", "file name", "tiff tags", "objective power"]
"""Where a pixel size comes from; the last is an estimate (10 / power) and is flagged as such."""


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """What is known of a slide without reading its pixels.

    Attributes:
        slide_id: name that is unique in a run and safe as a folder name.
        path: the file as it was given.
        fingerprint: short hash of the file's size and sampled content; changes when the slide does.
        frame: level 0, cut to the slide's bounds where the file has any: extent (px) and pixel size
            (um).
        levels: the frames of all levels, finest first; ``levels[0] == frame``.
        vendor: scanner or format family as the reader names it.
        reader: which reader serves this file.
        mpp_source: where the pixel size comes from.
        compression: codec of level 0 ("jpeg", "jpeg2000", ...), "unknown" where the reader does not
            say.
        objective_power: the scanner's nominal magnification, for the record only; never used as
            geometry.
        bounds: the part of the file's own level 0 that ``frame`` covers (px); its y, x are the
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
    """Pixels of one open slide. Safe to call from several threads; never pickled, opened where it
    is used.
    """

    @property
    def info(self) -> SlideInfo:
        """What the slide is."""
        ...

    @property
    def bgr(self) -> bool:
        """Whether the file holds blue where red belongs; ``read`` has put it right."""
        ...

    def read(self, box: Box, mpp: float) -> UInt8:
        """The pixels of ``box``, given in pixels of ``info.frame.at(mpp)``.

        Taken from the nearest finer level and area-averaged (coarser than every pixel read, never
        subsampled). The value of a pixel does not depend on the box that it is read with.

        Returns:
            uint8 ``[box.height, box.width, 3]``, RGB; white outside the slide and where the file is
            transparent.

        Raises:
            SlideReadError: if the file's pixels cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Release the file. Reading afterwards is an error."""
        ...
