from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from noctile.pipeline.masks.downsample import halve_image, halve_labels

CODES = st.sampled_from([0, 1, 2, 3, 255])


def naive(labels: np.ndarray) -> np.ndarray:
    """Halve one pixel at a time: most votes, then not 0, then the smallest code."""
    height, width = labels.shape
    out = np.zeros((-(-height // 2), -(-width // 2)), np.uint8)
    for y, x in np.ndindex(out.shape):
        votes = Counter(labels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())
        out[y, x] = min(votes, key=lambda code: (-votes[code], code == 0, code))
    return out


@pytest.mark.parametrize(
    ("four", "most"),
    [
        ([5, 5, 5, 5], 5),
        ([0, 0, 0, 3], 0),
        ([9, 2, 9, 9], 9),
        ([7, 4, 4, 7], 4),  # a tie: the smaller
        ([0, 8, 8, 0], 8),  # a tie: not 0
        ([0, 0, 1, 2], 0),  # no tie
        ([6, 0, 5, 6], 6),
        ([4, 3, 2, 255], 2),
        ([4, 3, 0, 255], 3),
    ],
)
def test_the_most_frequent_label_wins_and_ties_go_to_the_smallest_code_but_zero(four, most):
    assert halve_labels(np.array(four, np.uint8).reshape(2, 2)).tolist() == [[most]]


def test_pixels_outside_do_not_vote():
    labels = np.array([[1, 1, 0], [1, 1, 2], [3, 0, 0]], np.uint8)
    assert halve_labels(labels).tolist() == [[1, 2], [3, 0]]


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=CODES))
def test_halving_equals_counting_one_pixel_at_a_time(labels):
    before = labels.copy()
    assert (halve_labels(labels) == naive(labels)).all()
    assert (labels == before).all()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.9])
def test_halving_is_the_same_with_few_and_with_many_mixed_pixels(share):
    rng = np.random.default_rng(4)
    labels = np.kron(rng.integers(0, 4, (9, 7), np.uint8), np.ones((8, 8), np.uint8))[:71, :55]
    labels = np.where(
        rng.random(labels.shape) < share, rng.integers(0, 4, labels.shape, np.uint8), labels
    )
    assert (halve_labels(labels) == naive(labels)).all()


def test_an_image_is_halved_by_the_means_of_existing_pixels():
    pixels = np.array([[0, 10, 100], [20, 31, 101], [7, 8, 255]], np.uint8)[..., None]
    assert halve_image(pixels)[..., 0].tolist() == [[15, 101], [8, 255]]
