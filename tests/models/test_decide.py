"""Three bytes a pixel: the same from logits, strip by strip, as from the probabilities of all pixels at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standins import ConstantNet, card

from pipeline.models import decide as module
from pipeline.models.decide import Decider, decide, decide_logits, decide_probabilities, empty_decision


def softmax_of(logits: np.ndarray) -> np.ndarray:
    """The definition, in float64."""
    e = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    return e / e.sum(axis=0)


def decided(logits: np.ndarray, tumor: list[int]):
    decision = empty_decision(1, logits.shape[1])
    decide_logits(logits, tumor, decision, 0)
    return decision.winner[0], decision.tumor[0], decision.confidence[0]


class TestLogits:
    @given(st.integers(2, 30), st.integers(1, 40), st.integers(0, 99), st.sampled_from([0.01, 1.0, 30.0]))
    def test_they_decide_as_their_softmax_does(self, channels, side, seed, spread):
        rng = np.random.default_rng(seed)
        logits = (rng.standard_normal((channels, side, side)) * spread).astype(np.float32)
        tumor = [k for k in range(channels) if k % 3 == 1]
        p = softmax_of(logits)
        winner, likely, confidence = decided(logits, tumor)
        np.testing.assert_array_equal(winner, logits.argmax(axis=0))
        assert np.abs(likely - 255 * p[tumor].sum(axis=0)).max() <= 0.501
        assert np.abs(confidence - 255 * p.max(axis=0)).max() <= 0.501

    def test_the_first_of_equals_wins(self):
        logits = np.zeros((255, 8, 8), np.float32)
        logits[7:] = 1
        assert (decided(logits, [])[0] == 7).all()

    def test_very_different_logits_neither_overflow_nor_vanish(self):
        logits = np.full((3, 8, 8), -1e38, np.float32)
        logits[1] = 1e38
        winner, likely, confidence = decided(logits, [0])
        assert (winner == 1).all()
        assert (likely == 0).all()
        assert (confidence == 255).all()

    def test_no_tumor_class_means_no_tumor(self):
        assert not decided(np.zeros((2, 8, 8), np.float32), [])[1].any()

    @pytest.mark.parametrize("part", [slice(0, 64), slice(8, 57)])
    def test_a_pixel_does_not_depend_on_the_strip_that_it_is_looked_at_in(self, part, monkeypatch):
        logits = np.random.default_rng(1).standard_normal((21, 64, 64)).astype(np.float32)[:, part, part]
        whole = decided(logits, [2])
        monkeypatch.setattr(module, "_STRIP_BYTES", 1)
        for a, b in zip(whole, decided(logits, [2]), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_channels_may_lie_side_by_side_in_memory(self):
        logits = np.random.default_rng(4).standard_normal((5, 50, 50)).astype(np.float32)
        beside = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
        for a, b in zip(decided(logits, [1]), decided(beside, [1]), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_what_is_no_number_is_an_error(self):
        logits = np.zeros((3, 8, 8), np.float32)
        logits[:, 3, 3] = np.nan
        with pytest.raises(ValueError, match="not a number"), np.errstate(invalid="ignore"):
            decided(logits, [])


def test_a_model_without_a_quick_way_is_asked_for_probabilities():
    net = ConstantNet(card(), [0.2, 0.5, 0.3])
    assert not isinstance(net, Decider)
    decision = decide(net, np.zeros((2, 64, 64, 3), np.uint8), slice(8, 57))
    assert decision.winner.shape == (2, 49, 49)
    assert (decision.winner == 1).all()
    assert (decision.confidence == 128).all()  # 127.5, rounded to even


def test_weights_that_sum_to_nothing_decide_nothing():
    decision = decide_probabilities(np.zeros((1, 2, 4, 4), np.float32), [0], np.zeros((4, 4), np.float32))
    assert not any(np.asarray(v).any() for v in (decision.winner, decision.tumor, decision.confidence))
