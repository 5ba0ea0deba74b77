"""The whole slide at once, at a coarse pixel size."""

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.slides.base import SlideReader


def read_thumbnail(reader: SlideReader, mpp: float) -> tuple[UInt8, Frame]:
    """All of a slide, and the frame of its pixels, which is ``info.frame.at(mpp)``.

    The last row and column repeat the ones before them where the slide does not fill them: mixed
    with the white outside they would be lighter than the glass, and the step would look like the
    edge of something.

    Returns:
        uint8 ``[h, w, 3]`` and its frame.

    Raises:
        SlideReadError: if the file's pixels cannot be decoded.
    """
    native = reader.info.frame
    frame = native.at(mpp)
    ends = (
        native.extent.height * native.mpp_y / frame.mpp_y,
        native.extent.width * native.mpp_x / frame.mpp_x,
    )
    height, width = (max(1, int(end + 1e-6)) for end in ends)
    rest = frame.extent.height - height, frame.extent.width - width
    return np.pad(
        reader.read(Box(0, 0, height, width), mpp),
        ((0, rest[0]), (0, rest[1]), (0, 0)),
        mode="edge",
    ), frame
