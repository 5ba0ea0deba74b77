from pathlib import Path

import numpy as np
import pytest
from standins import stored_labels

from noctile.pipeline.export.tiles import label_tiles, tile_count


@pytest.mark.parametrize("side_px", [64, 100, 512])
def test_tiles_cover_the_level_once_and_are_padded_with_0(tmp_path: Path, side_px):
    labels = np.random.default_rng(0).choice(np.array([1, 2, 21], np.uint8), (130, 1700))
    source = stored_labels(tmp_path / "s", labels, block_px=128)
    found = np.zeros_like(labels)
    tiles = list(label_tiles(source.store, 0, side_px))
    for box, tile in tiles:
        assert tile.shape == (side_px, side_px)
        found[box.slices()] += tile[: box.height, : box.width]
        assert np.count_nonzero(tile) == box.area
    np.testing.assert_array_equal(found, labels)
    assert len(tiles) == tile_count(source.store, 0, side_px)
    assert [box for box, _ in tiles] == sorted(box for box, _ in tiles)
