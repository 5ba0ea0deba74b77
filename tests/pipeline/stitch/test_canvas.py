"""Canvases: the choice by window, and the tiles and numbers that they refuse."""

import numpy as np
import pytest
import torch
from standins import ConstantNet, card

from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.models.pixel_labels import labels_from_probabilities
from noctile.pipeline.plan import TileGrid
from noctile.pipeline.stitch.blend import BlendCanvas
from noctile.pipeline.stitch.canvas import CropCanvas, labelled_part, new_canvas


@pytest.mark.parametrize(("window", "kind"), [("crop", CropCanvas), ("blend", BlendCanvas)])
def test_the_window_chooses_the_canvas_and_both_give_a_constant(window, kind):
    net, grid = ConstantNet(card(64, 16), [0.2, 0.5, 0.3]), TileGrid(64, 16, Extent(48, 96))
    canvas = new_canvas(window, Box(0, 0, 48, 96), grid, net, np.ones((48, 96), bool))
    assert isinstance(canvas, kind)
    tiles = np.zeros((2, 64, 64, 3), np.uint8)
    canvas.add([(0, 0), (0, 1)], tiles, net)
    mask = canvas.finish()
    assert (mask.labels == card().classes[1].code).all()
    assert (mask.heat == 51).all()  # 0.2 x 255
    assert (mask.analysed == 64).all()


def test_the_labelled_part_is_the_core_and_one_line():
    assert labelled_part(TileGrid(64, 16, Extent(48, 48))) == slice(8, 57)
    assert labelled_part(TileGrid(64, 0, Extent(48, 48))) == slice(0, 64)


@pytest.mark.parametrize("window", ["crop", "blend"])
def test_tissue_without_tiles_is_refused(window):
    net = ConstantNet(card(64, 16), [0.2, 0.5, 0.3])
    grid, box = TileGrid(64, 16, Extent(8, 8)), Box(0, 0, 8, 8)
    with pytest.raises(ValueError, match="without tiles"):
        new_canvas(window, box, grid, net, np.ones((8, 8), bool)).finish()
    assert not new_canvas(window, box, grid, net, np.zeros((8, 8), bool)).finish().labels.any()


@pytest.mark.parametrize("namespace", [np, torch])
@pytest.mark.parametrize("window", ["crop", "blend"])
@pytest.mark.parametrize("in_tissue", [True, False])
def test_nan_is_an_error_in_tissue_only(window, namespace, in_tissue):
    p = np.full((1, 2, 64, 64), 0.5, np.float32)
    p[:, :, 30, 20] = np.nan
    tissue = np.ones((48, 48), bool)
    tissue[30 - 8, 20 - 8] = in_tissue
    box, grid = Box(0, 0, 48, 48), TileGrid(64, 16, Extent(48, 48))
    if window == "crop":
        canvas, part = CropCanvas(box, grid, [1, 2], tissue), labelled_part(grid)
        labels = labels_from_probabilities(namespace.asarray(p)[:, :, part, part], [0])
        canvas.add_labels([(0, 0)], labels)
    else:
        canvas = BlendCanvas(box, grid, [1, 2], [0], tissue)
        canvas.add_probabilities([(0, 0)], namespace.asarray(p))
    if in_tissue:
        with pytest.raises(ValueError, match="not a number"):
            canvas.finish()
    else:
        assert (canvas.finish().labels > 0).sum() == 48 * 48 - 1
