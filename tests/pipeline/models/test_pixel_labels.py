"""Labels from logits equal labels from the softmax, for each way to compute them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.models import pixel_labels as module
from noctile.pipeline.models.folder import make_card
from noctile.pipeline.models.pixel_labels import (
    empty_pixel_labels,
    labels_from_logits,
    labels_from_probabilities,
)

SIDE = 64


def softmax_of(logits: np.ndarray) -> np.ndarray:
    """The definition, in float64."""
    e = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    return e / e.sum(axis=0)


def compute(logits: np.ndarray, tumor: list[int]):
    """Label, tumor and confidence of one tile, computed in numpy."""
    labels = empty_pixel_labels(1, logits.shape[1])
    labels_from_logits(logits, tumor, labels, 0)
    return labels.label[0], labels.tumor[0], labels.confidence[0]


class Fixed(torch.nn.Module):
    """A network with a fixed output: logits ``[c, h, w]``."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("_logits", torch.tensor(logits, dtype=torch.float32))

    def forward(self, x):
        return self._logits[None] + 0 * x[:, :1]


class ClassByClass(Fixed):
    """A network with a fixed output that computes class by class."""

    def forward(self, x):
        return torch.cat([plane[None, None] + 0 * x[:, :1] for plane in self._logits], dim=1)


class Convolved(Fixed):
    """A network with a fixed output that comes from a convolution."""

    def forward(self, x):
        same = torch.eye(len(self._logits))[:, :, None, None]
        return torch.nn.functional.conv2d(super().forward(x), same)


def labels_by_openvino(logits: np.ndarray, tumor: list[int], network: type[Fixed] = Fixed):
    """Label, tumor and confidence of one tile, computed by OpenVINO."""
    openvino = pytest.importorskip(
        "noctile.pipeline.models.openvino", reason="OpenVINO has no wheel for this system"
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
    labels = predict.predict_labels(np.zeros((1, SIDE, SIDE, 3), np.uint8), slice(None))
    return labels.label[0], labels.tumor[0], labels.confidence[0]


def labels_class_by_class(logits: np.ndarray, tumor: list[int]):
    """Label, tumor and confidence from a network that computes class by class."""
    return labels_by_openvino(logits, tumor, ClassByClass)


def labels_convolved(logits: np.ndarray, tumor: list[int]):
    """Label, tumor and confidence from a network that ends in a convolution."""
    return labels_by_openvino(logits, tumor, Convolved)


def agrees_with_softmax(compute, logits: np.ndarray) -> None:
    tumor, p = [k for k in range(len(logits)) if k % 3 == 1], softmax_of(logits)
    label, tumor_byte, confidence = compute(logits, tumor)
    np.testing.assert_array_equal(label, logits.argmax(axis=0))
    assert np.abs(tumor_byte - 255 * p[tumor].sum(axis=0)).max() <= 0.501
    assert np.abs(confidence - 255 * p.max(axis=0)).max() <= 0.501


@pytest.mark.parametrize(
    "compute", [compute, labels_by_openvino, labels_class_by_class, labels_convolved]
)
class TestEachWay:
    @pytest.mark.parametrize("channels", [2, 3, 4, 5, 21, 254])
    @pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
    def test_labels_are_those_of_the_softmax(self, compute, channels, spread):
        logits = (
            np.random.default_rng(channels)
            .standard_normal((channels, SIDE, SIDE))
            .astype(np.float32)
            * spread
        )
        if spread < 1:
            logits = np.round(logits * 50) / 50  # many are equal
        agrees_with_softmax(compute, logits)

    def test_the_first_of_equal_channels_is_taken(self, compute):
        logits = np.zeros((255, SIDE, SIDE), np.float32)
        logits[7:] = 1
        assert (compute(logits, [])[0] == 7).all()

    def test_very_different_logits_neither_overflow_nor_vanish(self, compute):
        logits = np.full((3, SIDE, SIDE), -1e38, np.float32)
        logits[1] = 1e38
        label, tumor_byte, confidence = compute(logits, [0])
        assert (label == 1).all()
        assert (tumor_byte == 0).all()
        assert (confidence == 255).all()

    def test_no_tumor_class_means_no_tumor(self, compute):
        assert not compute(np.ones((2, SIDE, SIDE), np.float32), [])[1].any()

    @pytest.mark.parametrize("channels", [2, 5, 21])
    @pytest.mark.parametrize("where", [0, 1, -1, slice(None)])
    def test_nan_is_an_error(self, compute, channels, where):
        logits = np.zeros((channels, SIDE, SIDE), np.float32)
        logits[-1] = 200  # all others vanish beside it
        logits[where, 10, 20] = np.nan
        with pytest.raises(ValueError, match="not a number"), np.errstate(invalid="ignore"):
            compute(logits, [0])


@pytest.mark.parametrize("compute", [labels_by_openvino, labels_class_by_class, labels_convolved])
@pytest.mark.parametrize("channels", [2, 5, 21])
def test_infinity_is_an_error(compute, channels):
    logits = np.zeros((channels, SIDE, SIDE), np.float32)
    logits[1, 10, 20] = np.inf
    with pytest.raises(ValueError, match="not a number"):
        compute(logits, [0])


class TestLogits:
    @given(
        st.integers(2, 30),
        st.integers(1, 40),
        st.integers(0, 99),
        st.sampled_from([0.01, 1.0, 30.0]),
    )
    def test_labels_of_any_size_are_those_of_the_softmax(self, channels, side, seed, spread):
        rng = np.random.default_rng(seed)
        logits = (rng.standard_normal((channels, side, side)) * spread).astype(np.float32)
        agrees_with_softmax(compute, logits)

    @pytest.mark.parametrize("part", [slice(0, 64), slice(8, 57)])
    def test_a_pixel_does_not_depend_on_its_strip(self, part, monkeypatch):
        logits = (
            np.random.default_rng(1).standard_normal((21, 64, 64)).astype(np.float32)[:, part, part]
        )
        whole = compute(logits, [2])
        monkeypatch.setattr(module, "_STRIP_BYTES", 1)
        for a, b in zip(whole, compute(logits, [2]), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_channels_may_be_interleaved_in_memory(self):
        logits = np.random.default_rng(4).standard_normal((5, 50, 50)).astype(np.float32)
        beside = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
        for a, b in zip(compute(logits, [1]), compute(beside, [1]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_weights_that_add_up_to_zero_give_no_label():
    labels = labels_from_probabilities(
        np.zeros((1, 2, 4, 4), np.float32), [0], np.zeros((4, 4), np.float32)
    )
    assert not any(np.asarray(v).any() for v in (labels.label, labels.tumor, labels.confidence))
