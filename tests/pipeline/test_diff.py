"""Comparison of label maps pixel by pixel: shared grids, counts of pairs, change maps."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.diff import (
    PairCounter,
    PairCounts,
    covered_box,
    frame_under,
    grid_is_first,
    labels_under,
    pixels_under,
    place,
)
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.models.card import ClassInfo


def info(code: int, name: str, role: str = "tissue") -> ClassInfo:
    return ClassInfo(code=code, name=name, color=(0, 0, 0), role=role)


A = (info(1, "tumor", "tumor"), info(2, "stroma"), info(5, "dcis", "tumor"))
B = (info(7, "stroma"), info(3, "cancer", "tumor"), info(1, "fat"), info(9, "tumor", "tumor"))


def placed(height, width, mpp, native=0.25, bounds=(0, 0), alignment="level0"):
    return place(Frame(Extent(height, width), mpp, mpp), (native, native), bounds, alignment)


def test_equal_label_maps_have_equal_pixels():
    a = placed(5, 7, 0.5)
    rows, cols = pixels_under(a, placed(5, 7, 0.5))
    assert (rows.tolist(), cols.tolist()) == (list(range(5)), list(range(7)))
    assert grid_is_first(a, placed(5, 7, 0.505))


def test_a_finer_label_map_is_read_under_the_centres_of_the_coarser_one():
    coarse, fine = placed(4, 4, 0.5), placed(8, 8, 0.25)
    assert grid_is_first(coarse, fine)
    assert not grid_is_first(fine, coarse)
    rows, _ = pixels_under(coarse, fine)
    assert rows.tolist() == [1, 3, 5, 7]  # the centre lies on an edge: the pixel behind it


def test_bounds_shift_label_maps_of_the_same_file():
    whole, scanned = placed(8, 8, 0.5), placed(4, 4, 0.5, bounds=(8, 4))
    rows, cols = pixels_under(whole, scanned)
    assert rows.tolist() == [-1, -1, -1, -1, 0, 1, 2, 3]
    assert cols.tolist() == [-1, -1, 0, 1, 2, 3, -1, -1]
    assert covered_box(rows[:5], cols) == Box(0, 0, 1, 4)
    assert covered_box(rows[:2], cols).area == 0
    assert frame_under(scanned, whole) == Box(4, 2, 4, 4)


def test_bounds_do_not_count_between_two_files():
    a = placed(4, 4, 0.5, bounds=(100, 0), alignment="physical")
    rows, _ = pixels_under(a, placed(4, 4, 0.5, native=0.5, alignment="physical"))
    assert rows.tolist() == [0, 1, 2, 3]


def test_labels_under_a_part_of_the_grid():
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    box = Box(10, 20, 4, 5)
    rows, cols = np.array([-1, 10, 12, 13]), np.array([20, 22, 24, -1])
    under = labels_under(labels, box, rows, cols)
    assert under.tolist() == [[0, 0, 0, 0], [0, 2, 4, 0], [10, 12, 14, 0], [15, 17, 19, 0]]
    assert not labels_under(labels, box, np.array([-1]), cols).any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_counts_equal_a_plain_loop(seed, height, width):
    rng = np.random.default_rng(seed)
    a = rng.choice([0, 1, 2, 5], (height, width)).astype(np.uint8)
    b = rng.choice([0, 1, 3, 7, 9], (height, width)).astype(np.uint8)
    counter = PairCounter(A, B)
    change = counter.add(a[:5], b[:5])
    change = np.concatenate((change, counter.add(a[5:], b[5:])))
    for (row, one), (col, other) in product(enumerate((0, 1, 2, 5)), enumerate((0, 7, 3, 1, 9))):
        assert counter.pixels[row, col] == ((a == one) & (b == other)).sum()
    in_a, in_b = np.isin(a, (1, 5)), np.isin(b, (3, 9))
    expected = np.where((a > 0) | (b > 0), 4, 0)
    expected[in_a], expected[in_b], expected[in_a & in_b] = 2, 3, 1
    assert (change == expected).all()
    counts = PairCounts(A, B, counter.pixels)
    assert counts.analysed_in_both == ((a > 0) & (b > 0)).sum()
    assert counts.analysed_only_in_a == ((a > 0) & (b == 0)).sum()
    assert counts.analysed_only_in_b == ((a == 0) & (b > 0)).sum()
    if in_a.any() or in_b.any():
        assert counts.tumor_dice == 2 * (in_a & in_b).sum() / (in_a.sum() + in_b.sum())
    if ((a > 0) & (b > 0)).any():
        assert counts.tumor_agreement == (in_a == in_b)[(a > 0) & (b > 0)].mean()


def test_classes_are_matched_by_name_and_the_tumor_by_role():
    counter = PairCounter(A, B)
    counter.add(np.array([[1, 2, 2, 5]], np.uint8), np.array([[9, 7, 1, 3]], np.uint8))
    counts = PairCounts(A, B, counter.pixels)
    assert counts.common == ["tumor", "stroma"]
    assert counts.tumor_dice == 1.0  # dcis in a lies under cancer in b
    assert counts.class_dice("tumor") == 1.0
    assert counts.class_dice("stroma") == pytest.approx(2 / 3)
    assert counts.class_agreement == 1.0  # fat is not in a, dcis not in b


def test_results_without_a_common_class_have_no_agreement_of_classes():
    counter = PairCounter(A[2:], B[:1])
    counter.add(np.array([[5]], np.uint8), np.array([[7]], np.uint8))
    counts = PairCounts(A[2:], B[:1], counter.pixels)
    assert (counts.common, counts.class_agreement) == ([], None)
    assert counts.tumor_dice == 0


def test_slides_without_tumor_have_no_dice():
    counts = PairCounts(A, B, np.zeros((4, 5), np.int64))
    assert (counts.tumor_dice, counts.tumor_agreement, counts.class_agreement) == (None,) * 3


def test_255_classes_on_both_sides():
    many = tuple(info(k, f"c{k}", "tumor" if k == 255 else "tissue") for k in range(1, 256))
    counter = PairCounter(many, many)
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    counter.add(labels, labels)
    assert (counter.pixels == np.eye(256)).all()
    assert PairCounts(many, many, counter.pixels).tumor_dice == 1.0


@pytest.mark.parametrize("side", [0, 1])
def test_labels_that_are_no_class_are_refused(side):
    labels = [np.array([[1]], np.uint8), np.array([[1]], np.uint8)]
    labels[side][0, 0] = 77
    with pytest.raises(ValueError, match=("first", "second")[side]):
        PairCounter(A, B).add(*labels)
