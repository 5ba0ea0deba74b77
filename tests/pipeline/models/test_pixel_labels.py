"""Three bytes a pixel: the same from logits, whichever way they are looked at, as from the softmax."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from standins import ConstantNet, card

from noctile.pipeline.models import pixel_labels as module
from noctile.pipeline.models.folder import make_card
from noctile.pipeline.models.pixel_labels import (
    empty_pixel_labels,
    labels_from_logits,
    labels_from_probabilities,
)
from noctile.pipeline.models.predictor import LabelPredictor, predict_labels

SIDE = 64


def softmax_of(logits: np.ndarray) -> np.ndarray:
    """The definition, in float64."""
    e = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    return e / e.sum(axis=0)


def decided(logits: np.ndarray, tumor: list[int]):
    """Winner, tumor and confidence of one tile, as numpy decides."""
    decision = empty_pixel_labels(1, logits.shape[1])
    labels_from_logits(logits, tumor, decision, 0)
    return decision.label[0], decision.tumor[0], decision.confidence[0]


class Fixed(torch.nn.Module):
    """Answers with given logits ``[c, h, w]``, whatever it sees."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("_logits", torch.tensor(logits, dtype=torch.float32))

    def forward(self, x):
        return self._logits[None] + 0 * x[:, :1]


class ClassByClass(Fixed):
    """The same, each class computed by itself."""

    def forward(self, x):
        return torch.cat([plane[None, None] + 0 * x[:, :1] for plane in self._logits], dim=1)


class Convolved(Fixed):
    """The same, out of a convolution."""

    def forward(self, x):
        same = torch.eye(len(self._logits))[:, :, None, None]
        return torch.nn.functional.conv2d(super().forward(x), same)


def decided_by_openvino(logits: np.ndarray, tumor: list[int], network: type[Fixed] = Fixed):
    """The same, as OpenVINO decides with a network."""
    openvino = pytest.importorskip(
        "noctile.pipeline.models.openvino", reason="the extra noctile[cpu] is not installed"
    )
    kinds = [
        {
            "code": k + 1,
            "name": f"c{k}",
            "color": (k, k, k),
            "role": "tumor" if k in tumor else "tissue",
        }
        for k in range(len(logits))
    ]
    about = {"name": "fixed", "description": "", "classes": kinds, "licence": "CC0-1.0", "mpp": 0.5}
    fixed = make_card({**about, "tile_px": SIDE, "overlap_px": 16}, "0" * 64)
    predict = openvino.OpenVinoPredictor(fixed, network(logits), threads=1)
    decision = predict.predict_labels(np.zeros((1, SIDE, SIDE, 3), np.uint8), slice(None))
    return decision.label[0], decision.tumor[0], decision.confidence[0]


def decided_class_by_class(logits: np.ndarray, tumor: list[int]):
    """The same, of a network that computes each class by itself."""
    return decided_by_openvino(logits, tumor, ClassByClass)


def decided_convolved(logits: np.ndarray, tumor: list[int]):
    """The same, of a network that ends in a convolution."""
    return decided_by_openvino(logits, tumor, Convolved)


def agrees_with_softmax(decided, logits: np.ndarray) -> None:
    tumor, p = [k for k in range(len(logits)) if k % 3 == 1], softmax_of(logits)
    winner, likely, confidence = decided(logits, tumor)
    np.testing.assert_array_equal(winner, logits.argmax(axis=0))
    assert np.abs(likely - 255 * p[tumor].sum(axis=0)).max() <= 0.501
    assert np.abs(confidence - 255 * p.max(axis=0)).max() <= 0.501


@pytest.mark.parametrize(
    "decided", [decided, decided_by_openvino, decided_class_by_class, decided_convolved]
)
class TestEachWay:
    @pytest.mark.parametrize("channels", [2, 3, 4, 5, 21, 254])
    @pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
    def test_they_decide_as_the_softmax_does(self, decided, channels, spread):
        logits = (
            np.random.default_rng(channels)
            .standard_normal((channels, SIDE, SIDE))
            .astype(np.float32)
            * spread
        )
        if spread < 1:
            logits = np.round(logits * 50) / 50  # many are equal
        agrees_with_softmax(decided, logits)

    def test_the_first_of_equals_wins(self, decided):
        logits = np.zeros((255, SIDE, SIDE), np.float32)
        logits[7:] = 1
        assert (decided(logits, [])[0] == 7).all()

    def test_very_different_logits_neither_overflow_nor_vanish(self, decided):
        logits = np.full((3, SIDE, SIDE), -1e38, np.float32)
        logits[1] = 1e38
        winner, likely, confidence = decided(logits, [0])
        assert (winner == 1).all()
        assert (likely == 0).all()
        assert (confidence == 255).all()

    def test_no_tumor_class_means_no_tumor(self, decided):
        assert not decided(np.ones((2, SIDE, SIDE), np.float32), [])[1].any()

    @pytest.mark.parametrize("channels", [2, 5, 21])
    @pytest.mark.parametrize("where", [0, 1, -1, slice(None)])
    def test_what_is_no_number_is_an_error(self, decided, channels, where):
        logits = np.zeros((channels, SIDE, SIDE), np.float32)
        logits[-1] = 200  # next to this all others are nothing
        logits[where, 10, 20] = np.nan
        with pytest.raises(ValueError, match="not a number"), np.errstate(invalid="ignore"):
            decided(logits, [0])


@pytest.mark.parametrize(
    "decided", [decided_by_openvino, decided_class_by_class, decided_convolved]
)
@pytest.mark.parametrize("channels", [2, 5, 21])
def test_what_is_infinite_is_an_error(decided, channels):
    logits = np.zeros((channels, SIDE, SIDE), np.float32)
    logits[1, 10, 20] = np.inf
    with pytest.raises(ValueError, match="not a number"):
        decided(logits, [0])


class TestLogits:
    @given(
        st.integers(2, 30),
        st.integers(1, 40),
        st.integers(0, 99),
        st.sampled_from([0.01, 1.0, 30.0]),
    )
    def test_they_decide_as_their_softmax_does(self, channels, side, seed, spread):
        rng = np.random.default_rng(seed)
        logits = (rng.standard_normal((channels, side, side)) * spread).astype(np.float32)
        agrees_with_softmax(decided, logits)

    @pytest.mark.parametrize("part", [slice(0, 64), slice(8, 57)])
    def test_a_pixel_does_not_depend_on_the_strip_that_it_is_looked_at_in(self, part, monkeypatch):
        logits = (
            np.random.default_rng(1).standard_normal((21, 64, 64)).astype(np.float32)[:, part, part]
        )
        whole = decided(logits, [2])
        monkeypatch.setattr(module, "_STRIP_BYTES", 1)
        for a, b in zip(whole, decided(logits, [2]), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_channels_may_lie_side_by_side_in_memory(self):
        logits = np.random.default_rng(4).standard_normal((5, 50, 50)).astype(np.float32)
        beside = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
        for a, b in zip(decided(logits, [1]), decided(beside, [1]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_model_without_a_quick_way_is_asked_for_probabilities():
    net = ConstantNet(card(), [0.2, 0.5, 0.3])
    assert not isinstance(net, LabelPredictor)
    decision = predict_labels(net, np.zeros((2, 64, 64, 3), np.uint8), slice(8, 57))
    assert decision.label.shape == (2, 49, 49)
    assert (decision.label == 1).all()
    assert (decision.confidence == 128).all()  # 127.5, rounded to even


def test_weights_that_sum_to_nothing_decide_nothing():
    decision = labels_from_probabilities(
        np.zeros((1, 2, 4, 4), np.float32), [0], np.zeros((4, 4), np.float32)
    )
    assert not any(
        np.asarray(v).any() for v in (decision.label, decision.tumor, decision.confidence)
    )
