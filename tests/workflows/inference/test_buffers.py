"""Shared buffers: arrays of a request lie behind one another."""

import numpy as np
import pytest
from standins import card

from noctile.workflows.inference.buffers import Request


@pytest.mark.parametrize("part", [None, (8, 56)])
def test_the_arrays_of_a_request_fill_its_buffer_without_overlap(part):
    model = card(tile_px=64, classes=3)
    request = Request(2, part)
    buffer = np.zeros(request.size_bytes(model), np.uint8)
    arrays = request.arrays(model, buffer)
    for array in arrays:
        array.view(np.uint8)[...] += 1
    assert (buffer == 1).all()
    assert arrays[0].shape == (2, 64, 64, 3)
    answer = [(2, 3, 64, 64)] if part is None else [(2, 48, 48)] * 3
    assert [array.shape for array in arrays[1:]] == answer
