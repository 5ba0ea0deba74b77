"""A set of regions is pooled, and its intervals are drawn from patients or blocks."""

import math

import numpy as np
import pytest
from metric_inputs import classes, counts

from noctile.pipeline.metrics.measurement import Measurement


class TestMeasurement:
    def test_a_class_with_the_role_ignore_is_in_accuracy_and_matrix_and_outside_of_the_means(
        self,
    ) -> None:
        confusion = np.array([[8, 0, 2], [0, 10, 0], [3, 3, 4]])
        found = Measurement(
            classes("tumor", "tissue", "ignore"), (counts(confusion),)
        ).estimates.pooled
        assert found.accuracy == pytest.approx(22 / 30)
        assert found.recall == pytest.approx([0.8, 1, 0.4])
        assert found.mean("recall") == pytest.approx(0.9)
        assert found.precision[0] == pytest.approx(8 / 11)

    def test_tumor_against_the_rest_pools_all_classes_with_that_role(self) -> None:
        confusion = [[5, 3, 2], [0, 8, 2], [1, 1, 8]]
        tumor = Measurement(classes("tumor", "tissue", "tumor"), (counts(confusion),)).tumor.pooled
        assert tumor.recall[0] == pytest.approx((5 + 2 + 1 + 8) / 20)
        assert tumor.precision[0] == pytest.approx(16 / 18)
        assert Measurement(classes("tissue", "tissue"), (counts([[1, 0], [0, 1]]),)).tumor is None


class TestUnits:
    def test_patients_are_drawn_not_regions(self) -> None:
        right, wrong = [[100, 0], [0, 100]], [[0, 100], [100, 0]]
        scores = [
            counts(m, f"{p}{k}", p)
            for p, m in (("a", right), ("b", right), ("c", wrong))
            for k in range(40)
        ]
        measurement = Measurement(classes("tumor", "tissue"), tuple(scores))
        unit, drawn = measurement.units
        assert (unit, drawn.shape) == ("patient", (3, 2, 2))
        found = measurement.estimates.accuracy
        assert (found.low, found.high) == (0, 1)

    def test_with_two_patients_blocks_are_drawn_and_with_two_blocks_nothing(self) -> None:
        blocks = [[[9, 1], [0, 9]], [[5, 5], [0, 9]], [[0, 0], [0, 0]]]
        two = tuple(counts(np.sum(blocks, axis=0), name, name, blocks) for name in "ab")
        measurement = Measurement(classes("tumor", "tissue"), two)
        assert (measurement.units[0], len(measurement.units[1])) == ("block", 4)
        found = measurement.estimates.of_class("recall", 0)
        assert found.value == pytest.approx(0.7)
        assert found.low < 0.6
        assert found.high > 0.8
        alone = Measurement(classes("tumor", "tissue"), two[:1])
        assert (alone.units[0], len(alone.units[1])) == ("none", 2)
        assert math.isnan(alone.estimates.accuracy.low)


def test_tables_have_a_row_for_each_region_and_institute() -> None:
    first = counts([[8, 2], [0, 10]], "a", "p", institute="OL")
    second = counts([[5, 5], [0, 0]], "b", "q", institute="OL")
    tables = Measurement(classes("tumor", "tissue"), (second, first)).tables()
    assert [row["name"] for row in tables["region"]] == ["a", "b"]
    assert tables["region"][0]["tumor_recall"] == pytest.approx(0.8)
    assert tables["region"][0]["stain"] == "#c896b4"
    assert math.isnan(tables["region"][1]["dice_c1"])
    (institute,) = tables["institute"]
    assert (institute["name"], institute["regions"], institute["patients"]) == ("OL", 2, 2)
    assert institute["accuracy"] == pytest.approx(23 / 30)


def test_an_unknown_institute_makes_no_table() -> None:
    assert "institute" not in Measurement(classes("tumor", "tissue"), (counts(np.eye(2)),)).tables()
