"""Accuracy, precision, recall, F1 and IoU against hand examples and independent counts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.metrics.class_metrics import METRICS, class_metrics


class TestClassMetrics:
    def test_a_hand_example(self) -> None:
        found = class_metrics(np.array([[6, 2], [1, 3]]), [True, True])
        assert found.accuracy == pytest.approx(9 / 12)
        assert found.precision == pytest.approx([6 / 7, 3 / 5])
        assert found.recall == pytest.approx([6 / 8, 3 / 4])
        assert found.f1 == pytest.approx([12 / 15, 6 / 9])
        assert found.iou == pytest.approx([6 / 9, 3 / 6])
        assert found.mean("iou") == pytest.approx((6 / 9 + 3 / 6) / 2)

    @pytest.mark.parametrize("n", [2, 5, 21])
    def test_metrics_equal_an_independent_count_of_pixels(self, n: int) -> None:
        rng = np.random.default_rng(n)
        truth = rng.integers(0, n, 4000)
        answer = np.where(rng.random(4000) < 0.6, truth, rng.integers(0, n, 4000))
        confusion = np.zeros((n, n), np.int64)
        np.add.at(confusion, (truth, answer), 1)
        found = class_metrics(confusion, [True] * n)
        assert found.accuracy == pytest.approx(float((truth == answer).mean()))
        for k in range(n):
            here, there = set(np.flatnonzero(truth == k)), set(np.flatnonzero(answer == k))
            both = len(here & there)
            expected = (
                both / len(there),
                both / len(here),
                2 * both / (len(here) + len(there)),
                both / len(here | there),
            )
            assert [found.values(metric)[k] for metric in METRICS] == pytest.approx(expected)
            assert found.dice[k] == pytest.approx(expected[2])

    @given(st.lists(st.integers(0, 10_000), min_size=16, max_size=16))
    def test_f1_is_the_harmonic_mean_of_its_own_precision_and_recall(
        self, counts: list[int]
    ) -> None:
        found = class_metrics(np.reshape(counts, (4, 4)), [True] * 4)
        for p, r, f1 in zip(found.precision, found.recall, found.f1, strict=True):
            if math.isnan(r):
                assert math.isnan(p)
                assert math.isnan(f1)
            else:
                assert f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0)

    def test_many_matrices_at_once_give_what_each_gives_alone(self) -> None:
        many = np.random.default_rng(0).integers(0, 50, (3, 4, 5, 5))
        many[1, 2, 3] = 0
        counted = [True, True, False, True, True]
        together = class_metrics(many, counted)
        for place in np.ndindex(3, 4):
            alone = class_metrics(many[place], counted)
            assert together.accuracy[place] == alone.accuracy
            for metric in METRICS:
                np.testing.assert_array_equal(together.values(metric)[place], alone.values(metric))
                assert together.mean(metric)[place] == pytest.approx(float(alone.mean(metric)))

    def test_true_negatives_do_not_make_the_accuracy_look_good(self) -> None:
        wrong = np.roll(np.eye(21, dtype=np.int64), 1, axis=1)
        assert class_metrics(wrong, [True] * 21).accuracy == 0

    def test_a_class_that_is_never_predicted_has_precision_0_and_one_not_in_the_truth_is_in_no_mean(
        self,
    ) -> None:
        found = class_metrics(np.array([[8, 0, 2], [4, 0, 0], [0, 0, 0]]), [True] * 3)
        assert found.precision[1] == found.recall[1] == found.f1[1] == 0
        assert all(math.isnan(found.values(metric)[2]) for metric in METRICS)
        assert found.mean("recall") == pytest.approx((0.8 + 0) / 2)

    def test_mean_f1_is_the_mean_of_f1_and_not_made_of_mean_precision_and_recall(self) -> None:
        found = class_metrics(np.array([[90, 10], [40, 10]]), [True, True])
        p, r = found.mean("precision"), found.mean("recall")
        assert found.mean("f1") == pytest.approx(float(found.f1.mean()))
        assert found.mean("f1") != pytest.approx(float(2 * p * r / (p + r)), abs=1e-3)

    def test_without_known_pixels_there_are_no_metrics(self) -> None:
        found = class_metrics(np.zeros((3, 3), np.int64), [True] * 3)
        assert math.isnan(found.accuracy)
        assert math.isnan(found.mean("f1"))
