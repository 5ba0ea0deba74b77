"""Measures of a patient: sums, ratios of sums, largest, weighted mean, spread."""

import math

import numpy as np
import pytest

from noctile.pipeline.patients.measures import MEASURES, measure_of, patient_value

BIG = {"tissue_mm2": 100.0, "tumor_mm2": 50.0, "other_tissue_mm2": 50.0, "mean_confidence": 0.9}
SMALL = {"tissue_mm2": 10.0, "tumor_mm2": 1.0, "other_tissue_mm2": 9.0, "mean_confidence": 0.5}


def value(name: str, *slides: dict[str, float]) -> float:
    return patient_value(measure_of(name), slides)


def test_a_fraction_is_a_ratio_of_sums_and_no_mean_of_fractions():
    assert value("tumor_fraction_of_tissue", BIG, SMALL) == pytest.approx(51 / 110)
    assert value("tumor_fraction_of_tissue", BIG, SMALL) != pytest.approx((0.5 + 0.1) / 2)


def test_areas_are_added_and_the_largest_is_found():
    assert value("tumor_area_mm2", BIG, SMALL) == 51
    foci = [{"foci": 3.0, "largest_focus_mm2": 2.0}, {"foci": 4.0, "largest_focus_mm2": 0.5}]
    assert value("tumor_foci", *foci) == 7
    assert value("largest_focus_mm2", *foci) == 2


def test_confidence_is_weighted_with_tissue():
    expected = np.average([0.9, 0.5], weights=[100, 10])
    assert value("mean_confidence", BIG, SMALL) == pytest.approx(expected)


def test_spread_needs_two_slides():
    assert value("tumor_fraction_range", BIG, SMALL) == pytest.approx(0.4)
    assert math.isnan(value("tumor_fraction_range", BIG))


def test_ratios_of_the_tumor_bed_are_ratios_of_sums():
    slides = [
        {"bed_stroma_mm2": 3.0, "bed_tumor_mm2": 1.0, "necrosis_mm2": 1.0, "tumor_mm2": 9.0},
        {"bed_stroma_mm2": 1.0, "bed_tumor_mm2": 5.0},
    ]
    assert value("tumor_stroma_ratio", *slides) == pytest.approx(4 / 10)


@pytest.mark.parametrize("measure", MEASURES)
def test_slides_without_a_figure_do_not_count(measure):
    assert math.isnan(patient_value(measure, [{}, {}]))
    full = dict.fromkeys(measure.figures, 1.0)
    slides = [full, {}, {measure.figures[0]: math.nan}]
    alone = patient_value(measure, [full])
    assert patient_value(measure, slides) == pytest.approx(alone, nan_ok=True)


def test_no_area_gives_no_ratio():
    assert math.isnan(
        value("tumor_fraction_of_tissue", {"tumor_mm2": 0.0, "other_tissue_mm2": 0.0})
    )
