import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import MASK_CLASSES, stored_labels

from noctile.pipeline.spatial.sampling import sample_labels

CODES = [info.code for info in MASK_CLASSES]


def random_labels(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, *CODES], (height, width)).astype(np.uint8)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from([16, 24, 40, 64]),
    st.sampled_from([0.5, 0.7, 1.1, 2.0, 4.0, 6.0, 10.0]),
)
def test_points_are_every_nth_pixel_whatever_the_blocks_are(seed, height, width, block_px, mpp):
    labels = random_labels(seed, height, width)
    step = max(1, round(8 / mpp))
    with tempfile.TemporaryDirectory() as folder:
        store = stored_labels(Path(folder) / "s", labels, mpp=(mpp, mpp), block_px=block_px).store
        points, frame = sample_labels(store, threads=2)
    assert (points == labels[step // 2 :: step, step // 2 :: step]).all()
    assert points.shape == (frame.extent.height, frame.extent.width)
    assert (frame.mpp_y, frame.mpp_x) == (mpp * step, mpp * step)


def test_thin_structures_keep_their_share_which_a_coarse_level_takes_from_them(tmp_path):
    """Lines of 3 px in 11 px at many angles: at 8 um the most frequent label wins everywhere."""
    ys, xs = np.indices((1600, 1600))
    labels = np.where((ys * 0.87 + xs * 0.49) % 11 < 3, 21, 1).astype(np.uint8)
    store = stored_labels(tmp_path / "s", labels, mpp=(2.0, 2.0)).store
    points, _ = sample_labels(store)
    truth = (labels == 21).mean()
    assert (points == 21).mean() == pytest.approx(truth, abs=0.005)
    assert (store.read_level(2) == 21).mean() < 0.8 * truth
