"""Points drawn from label maps."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare

from noctile.pipeline.audit.draw import SPACING_UM, LabelParts, draw_points
from noctile.pipeline.geometry import Box, Extent

SIDE = 7


def parts_of(labels, codes=(1, 21), mpp=(0.5, 0.5)):
    """Parts of a label map in a grid of small boxes."""
    whole = Box.of(Extent(*labels.shape))
    boxes = [
        Box(y, x, SIDE, SIDE).intersect(whole)
        for y in range(0, labels.shape[0], SIDE)
        for x in range(0, labels.shape[1], SIDE)
    ]
    read = [labels[box.slices()] for box in boxes]
    pixels = np.array([[np.count_nonzero(part == code) for code in codes] for part in read])
    return LabelParts(boxes, pixels, codes, mpp, lambda box: labels[box.slices()])


def test_each_pixel_of_a_class_is_equally_likely():
    """2,000 draws of one point on a map of uneven parts, with a fixed seed."""
    labels = np.zeros((20, 30), np.uint8)
    labels[:5, :9], labels[10:, 13:16], labels[19, 29] = 1, 1, 1
    labels[6:9, 5:25] = 21
    parts, rng = parts_of(labels), np.random.default_rng(5)
    drawn = [p for _ in range(2000) for p in draw_points(parts, (1, 0), rng)]
    assert {labels[p.y, p.x] for p in drawn} == {1}
    hits = np.zeros(labels.shape)
    np.add.at(hits, ([p.y for p in drawn], [p.x for p in drawn]), 1)
    assert chisquare(hits[labels == 1]).pvalue > 0.01


@pytest.mark.parametrize("mpp", [(0.5, 0.5), (0.5, 1.0), (4.0, 4.0)])
def test_points_keep_their_distance_and_repeat_with_a_seed(mpp):
    labels = np.where(np.arange(400)[:, None] < 200, 1, 21) * np.ones((400, 400), int)
    parts = parts_of(labels.astype(np.uint8), mpp=mpp)
    drawn = draw_points(parts, (20, 10), np.random.default_rng(1))
    assert [sum(p.stratum == k for p in drawn) for k in (0, 1)] == [20, 10]
    apart = [
        ((a.y - b.y) * mpp[0]) ** 2 + ((a.x - b.x) * mpp[1]) ** 2 for a, b in combinations(drawn, 2)
    ]
    assert min(apart) >= SPACING_UM**2
    assert drawn == draw_points(parts, (20, 10), np.random.default_rng(1))
    assert drawn != draw_points(parts, (20, 10), np.random.default_rng(2))


def test_further_points_keep_their_distance_from_those_that_are_there():
    labels = np.ones((200, 200), np.uint8)  # 100 um
    parts = parts_of(labels)
    there = draw_points(parts, (8, 0), np.random.default_rng(1))
    further = draw_points(parts, (5, 0), np.random.default_rng(2), there)
    assert len(further) == 5
    apart = [0.5 * np.hypot(a.y - b.y, a.x - b.x) for a in further for b in there]
    assert min(apart) >= SPACING_UM
    crowded = draw_points(parts, (5, 0), np.random.default_rng(2))
    assert min(0.5 * np.hypot(a.y - b.y, a.x - b.x) for a in crowded for b in there) < SPACING_UM


def test_a_class_without_room_gets_fewer_points_and_a_rare_one_is_not_crowded_out():
    labels = np.full((80, 80), 21, np.uint8)  # 40 um: room for few points
    labels[40:42, 40:42] = 1
    drawn = draw_points(parts_of(labels), (3, 50), np.random.default_rng(0))
    assert drawn[0].stratum == 0
    assert sum(p.stratum == 0 for p in drawn) == 1
    assert 3 < sum(p.stratum == 1 for p in drawn) < 10


def test_no_class_no_point():
    labels = np.ones((20, 20), np.uint8)
    assert draw_points(parts_of(labels), (0, 4), np.random.default_rng(0)) == []


def test_counts_that_differ_from_the_labels_are_refused():
    parts = parts_of(np.ones((20, 20), np.uint8))
    wrong = LabelParts(parts.boxes, parts.pixels + 1, parts.codes, parts.mpp, parts.read)
    with pytest.raises(ValueError, match="were counted"):
        draw_points(wrong, (1, 0), np.random.default_rng(0))
