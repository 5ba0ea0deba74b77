"""Check that enough of a slide's tissue could be read."""

import numpy as np
import pytest
from standins import tissue_of

from noctile.pipeline.errors import UnreadableTissueError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.readable import checked_quality

NATIVE = Frame(Extent(400, 600), 0.5, 0.5)
TILING = Tiling(mpp=1.0, tile_px=64, overlap_px=16, window="crop", block_px=192, n_classes=2)
PLAN = plan_tiles("s", NATIVE, tissue_of(np.ones((25, 38), bool)), TILING)


def stats(analysed_px: int, unread_px: int, *unread: tuple[int, int]) -> BlockStats:
    return BlockStats(analysed_px, 0, 0, unread=unread, unread_px=unread_px)


def test_a_little_unreadable_tissue_is_part_of_the_quality():
    quality = checked_quality("s", NATIVE, PLAN, [stats(990, 10, (0, 0)), stats(1000, 0)])
    assert quality.unreadable_fraction == 0.005


def test_too_much_names_the_first_regions_in_pixels_of_level_0():
    lost = [stats(100, 900, (2, 1), (0, 1)), stats(100, 900, (1, 0), (3, 0))]
    with pytest.raises(UnreadableTissueError) as caught:
        checked_quality("s", NATIVE, PLAN, lost)
    message = str(caught.value)
    assert message.startswith("slide s: 90.0% of its tissue cannot be decoded, more than 2%")
    assert "rows 0 to 96, columns 96 to 192; rows 96 to 192, columns 0 to 96; rows 192" in message
    assert "and 1 more. The file is damaged" in message
