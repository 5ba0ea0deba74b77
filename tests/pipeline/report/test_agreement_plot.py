"""Plots of the agreement of two results."""

import io

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.report.agreement_plot import plot_bland_altman, plot_dice, plot_scatter

NOTHING = np.zeros(0)
VALUES = np.array([0.0, 1.5, 3.0, 20.0])


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int64)


def reddish(png: bytes) -> int:
    """Number of pixels in the colour of the bias."""
    r, g, b = np.moveaxis(pixels(png), -1, 0)
    return int(((r > 150) & (g < 80) & (b < 90)).sum())


@pytest.mark.parametrize("values", [NOTHING, VALUES[:1], VALUES])
def test_plots_of_any_number_of_slides(values):
    for png in (
        plot_bland_altman(values, values / 10, "mm²", "mm²"),
        plot_scatter(values, values, "mm²"),
        plot_dice(values / 20),
    ):
        assert min(pixels(png).shape[:2]) > 300


def test_the_bias_is_drawn_from_two_slides_on():
    assert reddish(plot_bland_altman(VALUES[:1], VALUES[:1], "mm²", "mm²")) == 0
    assert reddish(plot_bland_altman(VALUES, VALUES, "mm²", "mm²")) > 500


def test_equal_results_have_no_axis_of_rounding():
    equal = plot_bland_altman(VALUES, VALUES * 0, "mm²", "mm²")
    assert plot_bland_altman(VALUES, VALUES * 1e-16, "mm²", "mm²") == equal
    assert reddish(equal) == 0
    assert reddish(plot_bland_altman(VALUES, VALUES * 1e-6, "mm²", "mm²")) > 500


def test_the_same_figures_give_the_same_bytes():
    assert plot_scatter(VALUES, VALUES, "mm²") == plot_scatter(VALUES, VALUES, "mm²")
