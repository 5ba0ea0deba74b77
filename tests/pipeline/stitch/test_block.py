"""The builder of a block: class codes, tissue and sums over cells."""

import array_api_compat
import numpy as np
import pytest
import torch

from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.models.pixel_labels import PixelLabels
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.stitch.block import BlockBuilder, pool_sums
from noctile.pipeline.stitch.seams import Seams


@pytest.mark.parametrize("namespace", [np, torch])
@pytest.mark.parametrize("shape", [(16, 24), (13, 20), (8, 8), (1, 1)])
def test_sums_over_cells_equal_a_plain_sum(namespace, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = np.add.reduceat(
        np.add.reduceat(values.astype(int), range(0, shape[0], 8), axis=0),
        range(0, shape[1], 8),
        axis=1,
    )
    array = namespace.asarray(values)
    sums = pool_sums(array_api_compat.array_namespace(array), array)
    np.testing.assert_array_equal(np.asarray(sums), expected)


@pytest.mark.parametrize("codes", [[3, 4, 5], [7, 2, 9]])
def test_labels_are_the_codes_of_the_channels_in_tissue(codes):
    tissue = np.ones((20, 16), bool)
    tissue[:4] = False
    builder = BlockBuilder(Box(0, 0, 20, 16), 16, codes, tissue.copy())
    channel = np.random.default_rng(1).integers(0, 3, (1, 32, 16), dtype=np.uint8)
    half = np.full_like(channel, 128)
    builder.start(channel)
    builder.write([Box(0, 0, 32, 16)], PixelLabels(channel, half, half))
    mask = builder.finish(Seams(TileGrid(32, 16, Extent(20, 16))))
    np.testing.assert_array_equal(mask.labels, np.asarray(codes)[channel[0, :20]] * tissue)
    np.testing.assert_array_equal(mask.analysed, [[32, 32], [64, 64], [32, 32]])
    assert (mask.heat == 128).all()  # the mean over tissue, not over the cell
    assert mask.stats.analysed_px == tissue.sum()


def test_a_core_that_is_left_out_has_no_label():
    builder = BlockBuilder(Box(0, 0, 16, 32), 16, [1, 2], np.ones((16, 32), bool))
    ones = np.ones((2, 16, 16), np.uint8)
    builder.start(ones)
    builder.leave_out(Box(0, 16, 16, 16))
    builder.write([Box(0, 0, 16, 16), Box(0, 16, 16, 16)], PixelLabels(ones, ones, ones))
    mask = builder.finish(Seams(TileGrid(32, 16, Extent(16, 32))))
    assert (mask.labels[:, :16] == 2).all()
    assert not mask.labels[:, 16:].any()
    assert mask.stats.analysed_px == 256
