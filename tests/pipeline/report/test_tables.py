"""Content of metrics.json and of the CSV tables."""

import math

import numpy as np
import pytest
from metric_inputs import measurement_of

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.report.page import Subject
from noctile.pipeline.report.tables import csv_tables, metrics_json
from noctile.pipeline.truth.scheme import BUILT_IN

SCHEME = BUILT_IN["tumor"]


def metrics(patients: str = "abc") -> dict:
    card = ModelCard(
        name="mine",
        description="",
        mpp=0.5,
        sha256="0" * 64,
        licence="CC0-1.0",
        classes=SCHEME.classes,
    )
    return metrics_json(
        Subject(card, SCHEME, "side test", ("note",)), measurement_of(SCHEME, patients)
    )


def test_each_figure_has_its_interval_and_the_units_of_the_draws_are_named() -> None:
    found = metrics()
    assert (found["regions"], found["patients"], found["notes"]) == (3, 3, ["note"])
    assert found["tumor"]["dice"] == found["tumor"]["f1"]
    for value in (found["accuracy"], *found["mean"].values(), *found["tumor"].values()):
        assert value["low"] <= value["value"] <= value["high"]
    assert (found["intervals"]["unit"], found["intervals"]["units"]) == ("patient", 3)


def test_a_figure_that_does_not_exist_is_null() -> None:
    found = metrics("a")
    assert found["accuracy"]["value"] is not None
    assert found["accuracy"]["low"] is None


def test_tables_have_a_row_for_each_class_region_and_group() -> None:
    measurement = measurement_of(SCHEME, "abc", region="=1+1")
    tables = csv_tables(measurement)
    assert [row["class"] for row in tables["per_class"]] == ["tumor", "other"]
    assert sum(row["pixels"] for row in tables["per_class"]) == measurement.confusion.sum()
    assert [row["group"] for row in tables["groups"]] == ["institute", "source"]
    matrix = [[row["tumor"], row["other"]] for row in tables["confusion"]]
    np.testing.assert_array_equal(matrix, measurement.confusion)


def test_text_of_the_data_is_no_formula_and_numbers_are_rounded() -> None:
    row = csv_tables(measurement_of(SCHEME, "abc", region="=1+1"))["regions"][0]
    assert not row["name"].startswith("=")
    accuracy = row["accuracy"]
    assert math.isclose(accuracy, round(accuracy, 6), rel_tol=0)
    assert accuracy == pytest.approx(0.9, abs=0.05)
