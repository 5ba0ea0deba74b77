"""Labels of a slide at the points of a regular grid.

Areas are counted as in point counting (Weibel, Stereological Methods, 1979): each point stands for
the same area, so that no class is preferred, however thin its structures are. A coarse pyramid
level would prefer the class with the smallest code (decision record 0039).
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.store import MaskStore

POINT_UM = 8.0
"""Distance of neighbouring points (um); the nearest whole number of label-map pixels is used.

An area of 1 mm2 has 15,600 points. A distance between classes is right to half of this.
"""


def sample_labels(store: MaskStore, threads: int = 1) -> tuple[UInt8, Frame]:
    """Read the labels at points about `POINT_UM` apart, block by block.

    Args:
        store: masks of the slide.
        threads: number of blocks that are read at the same time.

    Returns:
        uint8 ``[h, w]``, labels of the points, and the frame that has a pixel for each point. The
        points lie in the middle of these pixels.

    Raises:
        StoreError: if the masks cannot be read.
    """
    fine = store.layout.frame
    step = max(1, round(POINT_UM / fine.mpp))
    shape = (len(range(step // 2, n, step)) for n in (fine.extent.height, fine.extent.width))
    frame = Frame(Extent(*shape), fine.mpp_y * step, fine.mpp_x * step)
    labels = np.zeros((frame.extent.height, frame.extent.width), np.uint8)

    def sample_block(key: tuple[int, int]) -> None:
        box = store.layout.shard_box(*key)
        # Number of the first point in the block, and of the pixel on which it lies.
        row, col = (-(-(start - step // 2) // step) for start in (box.y, box.x))
        y, x = (k * step + step // 2 for k in (row, col))
        part = store.read(box)[y - box.y :: step, x - box.x :: step]
        labels[row : row + part.shape[0], col : col + part.shape[1]] = part

    with ThreadPoolExecutor(threads, "points") as pool:
        list(pool.map(sample_block, store.stored_shards()))
    return labels, frame
