"""Contract of `noctile.pipeline.models.predictor.Predictor`.

A subclass of `PredictorContract` has a fixture ``predict`` for a model whose first class alone has
the role tumor::

    class TestMyPredictor(PredictorContract):
        classes = 4

        @pytest.fixture(scope="class")
        def predict(self):
            return MyPredictor("folder")
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt
import pytest

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.models.predictor import Predictor, predict_labels

AnyArray = npt.NDArray[Any]


def host(values: Any) -> AnyArray:
    """An array of any library and device as a numpy array."""
    return np.asarray(array_api_compat.to_device(values, "cpu"))


class PredictorContract:
    """Tests that each predictor passes.

    Attributes:
        classes: number of classes of the model.
        tolerance: largest difference of a probability between two batches; 0: the same bits.
    """

    classes = 4
    tolerance = 0.0

    @pytest.fixture(scope="class")
    @classmethod
    def tiles(cls, predict: Predictor) -> UInt8:
        """Four tiles of noise."""
        side = predict.card.tile_px
        rng = np.random.default_rng(7)
        return rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)

    def test_each_pixel_has_a_probability_for_each_class_of_the_card(
        self, predict: Predictor, tiles: UInt8
    ) -> None:
        """Probabilities are float32 ``[n, classes, side, side]``."""
        p = predict(tiles)
        assert array_api_compat.is_array_api_obj(p)
        side = predict.card.tile_px
        assert p.shape == (4, self.classes, side, side)
        assert len(predict.card.classes) == self.classes
        assert host(p).dtype == np.float32

    def test_probabilities_of_a_pixel_sum_to_one(self, predict: Predictor, tiles: UInt8) -> None:
        """They are probabilities."""
        p = host(predict(tiles))
        assert p.min() >= 0
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)

    def test_different_tiles_have_different_answers(self, predict: Predictor, tiles: UInt8) -> None:
        """The answer depends on the pixels."""
        p = host(predict(tiles))
        assert np.ptp(p[0], axis=(1, 2)).max() > 0.01
        assert np.abs(p[0] - p[1]).max() > 0.01

    def test_labels_follow_from_the_probabilities(self, predict: Predictor, tiles: UInt8) -> None:
        """`predict_labels` agrees with the probabilities of all pixels."""
        side = predict.card.tile_px
        part = slice(side // 6, side - side // 6 + 1)
        labels, p = predict_labels(predict, tiles, part), host(predict(tiles))[:, :, part, part]
        label, tumor, confidence = map(host, (labels.label, labels.tumor, labels.confidence))
        assert {v.dtype.name for v in (label, tumor, confidence)} == {"uint8"}
        assert label.shape == (4, *p.shape[2:])
        chosen = np.take_along_axis(p, label[:, None], axis=1)[:, 0]
        assert (chosen >= p.max(axis=1) - 1e-5 - self.tolerance).all()
        rounding = 0.51 + 255 * self.tolerance
        assert np.abs(confidence - 255 * p.max(axis=1)).max() <= rounding
        assert np.abs(tumor - 255 * p[:, 0]).max() <= rounding

    def test_the_same_call_gives_the_same_bits(self, predict: Predictor, tiles: UInt8) -> None:
        """A repeated call repeats its answer."""
        assert np.array_equal(host(predict(tiles)), host(predict(tiles)))

    def test_a_tile_has_one_answer_in_any_batch_and_at_any_position(
        self, predict: Predictor, tiles: UInt8
    ) -> None:
        """The answer for a tile does not depend on the other tiles."""
        whole = host(predict(tiles))
        alone = np.concatenate([host(predict(tiles[i : i + 1])) for i in range(4)])
        turned = host(predict(tiles[::-1]))[::-1]
        np.testing.assert_allclose(alone, whole, rtol=0, atol=self.tolerance)
        np.testing.assert_allclose(turned, whole, rtol=0, atol=self.tolerance)

    def test_several_threads_may_call_it_at_once(self, predict: Predictor, tiles: UInt8) -> None:
        """Several threads get the answers that one gets."""
        expected = host(predict(tiles[:1])), host(predict(tiles[1:2]))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: host(predict(tiles[i % 2 : i % 2 + 1])), range(8)))
        assert all(np.array_equal(p, expected[i % 2]) for i, p in enumerate(found))

    def test_tiles_are_left_as_they_are_and_may_be_read_only(
        self, predict: Predictor, tiles: UInt8
    ) -> None:
        """The predictor does not write to its tiles."""
        frozen = tiles.copy()
        frozen.flags.writeable = False
        host(predict(frozen))
        assert np.array_equal(frozen, tiles)

    @pytest.mark.parametrize(
        ("shape", "kind"),
        [
            ((1, -1, 0, 3), np.uint8),
            ((1, 0, 0, 4), np.uint8),
            ((1, 3, 0, 0), np.uint8),
            ((0, 0, 3), np.uint8),
            ((-2, 0, 0, 3), np.uint8),
            ((1, 0, 0, 3), np.float32),
        ],
        ids=["side", "alpha", "channels first", "no batch", "empty batch", "float"],
    )
    def test_tiles_of_another_shape_or_type_are_refused(
        self, predict: Predictor, shape: tuple[int, ...], kind: type
    ) -> None:
        """Other tiles are a `ValueError`. In a shape 0 is the side, -1 half of it, -2 no tile."""
        side = predict.card.tile_px
        wrong: AnyArray = np.zeros([{0: side, -1: side // 2, -2: 0}.get(n, n) for n in shape], kind)
        with pytest.raises(ValueError, match=rf"takes uint8 \[n, {side}, {side}, 3\]"):
            predict(wrong)
