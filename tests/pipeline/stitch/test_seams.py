"""Seams: compared pixels and differences. The laws compare them with a plain definition."""

import numpy as np

from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.stitch.seams import Seams

GRID, BOX = TileGrid(64, 16, Extent(48, 96)), Box(0, 0, 48, 96)
SIDE = 49  # core and one line


def two_tiles(left: int, right: int) -> Seams:
    seams = Seams(GRID)
    labels = np.zeros((2, SIDE, SIDE), np.uint8)
    labels[0], labels[1] = left, right
    seams.add_labels([(0, 0), (0, 1)], labels)
    return seams


def test_the_line_behind_an_edge_is_compared_every_16_px():
    assert two_tiles(1, 1).count(np.ones((48, 96), bool), BOX) == (3, 0)
    assert two_tiles(1, 2).count(np.ones((48, 96), bool), BOX) == (3, 3)


def test_only_tissue_is_compared():
    tissue = np.ones((48, 96), bool)
    tissue[:20] = False  # the pixels in rows 0 and 16
    assert two_tiles(1, 2).count(tissue, BOX) == (1, 1)


def test_probabilities_and_labels_give_the_same_count():
    p = np.random.default_rng(0).random((2, 3, 64, 64)).astype(np.float32)
    by_probabilities, by_labels = Seams(GRID), Seams(GRID)
    by_probabilities.add_probabilities([(0, 0), (0, 1)], p)
    by_labels.add_labels([(0, 0), (0, 1)], p.argmax(axis=1).astype(np.uint8)[:, 8:57, 8:57])
    tissue = np.ones((48, 96), bool)
    assert by_probabilities.count(tissue, BOX) == by_labels.count(tissue, BOX)
    assert by_labels.count(tissue, BOX)[0] == 3


def test_without_overlap_nothing_is_compared():
    grid = TileGrid(64, 0, Extent(64, 128))
    seams = Seams(grid)
    seams.add_labels([(0, 0), (0, 1)], np.zeros((2, 64, 64), np.uint8))
    assert seams.count(np.ones((64, 128), bool), Box(0, 0, 64, 128)) == (0, 0)
