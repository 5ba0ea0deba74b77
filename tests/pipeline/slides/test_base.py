"""The protocol of slide readers, as real readers and a stand-in keep it."""

import inspect
import pickle
from contextlib import closing

import numpy as np
import pytest
from standins import ArraySlide

from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.open import open_slide


@pytest.fixture
def readers(repo):
    with closing(open_slide(repo / "sample_slides" / "scan-40x.svs")) as real:
        yield real, ArraySlide(np.zeros((64, 64, 3), np.uint8))


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_the_protocol_has_four_members():
    assert members(SlideReader) == {"info", "bgr", "flags", "read", "close"}


def test_a_reader_has_the_methods_with_their_parameters(readers):
    for name in ("read", "close"):
        wanted = list(inspect.signature(getattr(SlideReader, name)).parameters)
        for reader in readers:
            assert list(inspect.signature(getattr(type(reader), name)).parameters) == wanted


def test_the_description_of_a_slide_can_be_sent_to_another_process(readers):
    for reader in readers:
        assert isinstance(reader.info, SlideInfo)
        assert pickle.loads(pickle.dumps(reader.info)) == reader.info


def test_levels_begin_with_the_frame_and_lie_within_the_bounds(readers):
    for reader in readers:
        info = reader.info
        assert info.levels[0] == info.frame
        mpps = [level.mpp for level in info.levels]
        assert mpps == sorted(mpps)
        extent = info.frame.extent
        assert (info.bounds.height, info.bounds.width) == (extent.height, extent.width)
