import numpy as np
import pytest
from standins import tissue_of

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.tissue_index import TissueIndex

MASK = np.random.default_rng(3).random((13, 17)) < 0.1


@pytest.mark.parametrize("mpp", [(1.0, 1.0), (0.7, 1.3), (8.0, 8.0)])
def test_boxes_touch_tissue_where_the_mask_under_their_pixels_has_some(mpp):
    tissue = tissue_of(MASK, 8.0)
    frame = Frame(Extent(int(13 * 8 / mpp[0]), int(17 * 8 / mpp[1])), *mpp)
    starts = range(-10, 150, 7)
    down, across = [Box(y, 0, 9, 1) for y in starts], [Box(0, x, 1, 5) for x in starts]
    touched = TissueIndex(tissue, frame).touches(down, across)
    for i, y in enumerate(starts):
        for k, x in enumerate(starts):
            box = Box(y, x, 9, 5).intersect(frame.box)
            assert touched[i, k] == tissue.on(box, frame).any()


def test_a_box_without_area_touches_nothing():
    index = TissueIndex(tissue_of(np.ones((4, 4), bool)), Frame(Extent(32, 32), 1.0, 1.0))
    assert index.touches([Box(0, 0, 32, 32)], [Box(0, 0, 32, 32)]).tolist() == [[True]]
    assert index.touches([Box(5, 0, 0, 32)], [Box(0, 0, 32, 32)]).tolist() == [[False]]
