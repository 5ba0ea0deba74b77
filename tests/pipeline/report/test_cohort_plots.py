"""Plots of a cohort: the same bytes again, hostile names, sizes."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.patients.measures import measure_of
from noctile.pipeline.patients.survival import Curves
from noctile.pipeline.report.cohort_plots import (
    Picture,
    plot_effects,
    plot_groups,
    plot_number,
    plot_survival,
)
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.kaplan_meier import kaplan_meier

HOSTILE = "$\\frac{1$ </text><script>\x07\u6f22"
MEASURE = measure_of("tumor_area_mm2")
RANDOM = np.random.default_rng(0)
VALUES = {HOSTILE: RANDOM.gamma(2, 3, 40), "b": RANDOM.gamma(3, 3, 30), "empty": np.array([])}
TIME, EVENT = RANDOM.exponential(30, 60), np.arange(60) % 2.0


def survival() -> Picture:
    curves = {
        HOSTILE: kaplan_meier(TIME[:30], EVENT[:30]),
        "b": kaplan_meier(TIME[30:], EVENT[30:]),
    }
    return plot_survival("survival", Curves(HOSTILE, curves), HOSTILE)


MADE = {
    "groups": lambda: plot_groups(MEASURE, VALUES, HOSTILE),
    "number": lambda: plot_number(MEASURE, VALUES["b"], VALUES["b"] ** 2, HOSTILE),
    "survival": survival,
    "effects": lambda: plot_effects(
        [("Tumor area", Estimate(0.3, 0.1, 0.5)), ("Foci", Estimate(0.1))], f"{HOSTILE}\x0b", 0
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_plots_are_pictures_with_the_same_bytes_again(name):
    first, second = MADE[name](), MADE[name]()
    assert first == second
    image = Image.open(io.BytesIO(first.png))
    assert image.width > 400
    root = ElementTree.fromstring(first.svg)
    assert root.tag.endswith("svg")
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    assert first.description


def test_the_description_has_the_figures():
    text = plot_groups(MEASURE, VALUES, "subtype").description
    assert f"b: 30 patients, median {np.median(VALUES['b']):.3g}" in text
    assert "empty: 0 patients" in text


def test_many_points_keep_the_svg_small():
    values = {"a": RANDOM.gamma(2, 3, 20_000)}
    assert len(plot_groups(MEASURE, values, "x").svg) < 600_000
