"""Plots show the values that they are given."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.metrics.calibration import N_BINS, calibration_from_bins
from noctile.pipeline.report import plots
from noctile.pipeline.report.plots import plot_confusion, plot_curves, plot_reliability
from noctile.pipeline.truth.scheme import BUILT_IN


def history(classes: list[str], epochs: int, *, validated: bool = True) -> list[dict[str, float]]:
    """Dice rises up to the last but one epoch."""
    rows = []
    for k in range(1, epochs + 1):
        dice = min(k, 2 * epochs - 2 - k) / epochs if validated else math.nan
        row = {"epoch": k, "step": 10 * k, "seconds": 1.0, "lr": 1e-3, "train_loss": 1 / k}
        row |= {"val_loss": 2 / k if validated else math.nan, "val_dice_mean": dice}
        rows.append(row | {f"val_dice_{name}": dice + 0.01 for name in classes})
    return rows


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots return what they have drawn, not a PNG of it."""
    monkeypatch.setattr(plots, "to_png", lambda figure: figure)


class TestCurves:
    @pytest.mark.parametrize("n", [2, 21])
    def test_they_are_a_picture_that_can_be_read(self, n: int) -> None:
        names = [info.name for info in BUILT_IN["tumor" if n == 2 else "bcss21"].classes]
        image = Image.open(io.BytesIO(plot_curves(history(names, 6))))
        assert image.format == "PNG"
        assert image.width > 1400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50

    @pytest.mark.usefixtures("figure")
    def test_each_class_has_a_line_and_the_best_epoch_is_marked(self) -> None:
        names = [info.name for info in BUILT_IN["bcss21"].classes]
        losses, dice = plot_curves(history(names, 6)).axes
        lines = {line.get_label(): line for line in dice.get_lines()}
        assert set(lines) == {*names, "mean", "best epoch (5)"}
        assert lines["mean"].get_ydata() == pytest.approx(
            [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 4 / 6]
        )
        assert list(lines["best epoch (5)"].get_xdata()) == [5, 5]
        assert (
            len({(tuple(line.get_color()), line.get_linestyle()) for line in lines.values()}) == 23
        )
        (training, validation, _) = losses.get_lines()
        assert training.get_ydata() == pytest.approx([1 / k for k in range(1, 7)])
        assert validation.get_ydata() == pytest.approx([2 / k for k in range(1, 7)])

    @pytest.mark.usefixtures("figure")
    def test_without_validation_only_the_training_loss_is_plotted(self) -> None:
        losses, dice = plot_curves(history(["tumor", "other"], 1, validated=False)).axes
        assert [line.get_label() for line in losses.get_lines()] == ["training"]
        assert not dice.get_lines()
        assert [text.get_text() for text in dice.texts] == ["no validation regions"]


class TestConfusionPicture:
    @pytest.mark.usefixtures("figure")
    def test_rows_are_shares_of_the_truth_and_a_class_without_truth_is_empty(self) -> None:
        axes, _ = plot_confusion(
            np.array([[60, 20, 0], [0, 0, 0], [1, 1, 2]]), BUILT_IN["bcss5"].classes[:3]
        ).axes
        shown = np.ma.filled(axes.images[0].get_array(), np.nan)
        np.testing.assert_allclose(shown, [[0.75, 0.25, 0], [np.nan] * 3, [0.25, 0.25, 0.5]])
        assert [text.get_text() for text in axes.texts] == [
            "75.0",
            "25.0",
            "0.0",
            "25.0",
            "25.0",
            "50.0",
        ]
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            "tumor",
            "stroma",
            "inflammatory",
        ]

    @pytest.mark.usefixtures("figure")
    def test_of_21_classes_only_visible_shares_are_written(self) -> None:
        confusion = 1000 * np.eye(21, dtype=np.int64)
        confusion[0, 1:4] = 300, 4, 0
        axes, _ = plot_confusion(confusion, BUILT_IN["bcss21"].classes).axes
        assert [text.get_text() for text in axes.texts][:3] == ["77", "23", "100"]
        assert len(axes.texts) == 22

    @pytest.mark.parametrize("scheme", ["tumor", "bcss21"])
    def test_it_is_large_enough_for_its_names(self, scheme: str) -> None:
        classes = BUILT_IN[scheme].classes
        picture = Image.open(
            io.BytesIO(plot_confusion(np.eye(len(classes), dtype=np.int64), classes))
        )
        assert picture.format == "PNG"
        assert min(picture.size) > 55 * len(classes)


@pytest.mark.usefixtures("figure")
def test_the_reliability_diagram_shows_accuracy_over_confidence_and_how_many_pixels() -> None:
    bins = np.zeros((N_BINS, 3))
    bins[9], bins[14] = (100, 62, 50), (300, 294, 294)
    upper, lower = plot_reliability(calibration_from_bins(bins)).axes
    heights = [bar.get_height() for bar in upper.patches]
    assert (heights[9], heights[14], heights[0]) == pytest.approx((0.5, 0.98, 0))
    assert [bar.get_height() for bar in lower.patches][9] == pytest.approx(0.25)
    assert upper.get_title() == "Expected calibration error 3.0 %"
