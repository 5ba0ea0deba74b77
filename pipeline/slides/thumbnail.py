"""Thumbnail of a slide: all of it at a coarse pixel size."""

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.slides.base import SlideReader


def read_thumbnail(reader: SlideReader, mpp: float) -> tuple[UInt8, Frame]:
    """Read all of a slide at a coarse pixel size.

    If the slide does not fill the last row or column, that row or column repeats the one before it.
    Mixed with the white outside, it would be lighter than the glass, and the step would look like
    an edge in the tissue.

    Args:
        reader: the open slide.
        mpp: pixel size of the thumbnail (um).

    Returns:
        RGB, uint8 ``[h, w, 3]``, and its frame, ``info.frame.at(mpp)``.

    Raises:
        SlideReadError: if the file's pixels cannot be decoded.
    """
    native = reader.info.frame
    frame = native.at(mpp)
    filled = (
        native.extent.height * native.mpp_y / frame.mpp_y,
        native.extent.width * native.mpp_x / frame.mpp_x,
    )
    height, width = (max(1, int(side + 1e-6)) for side in filled)
    missing = frame.extent.height - height, frame.extent.width - width
    pixels = reader.read(Box(0, 0, height, width), mpp)
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge"), frame
