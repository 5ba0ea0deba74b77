"""Pictures show what they are given; the page holds everything, says where figures come from, and
trusts no text."""

import base64
import io
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.metrics.calibration import N_BINS, calibration_from_bins
from noctile.pipeline.metrics.measurement import Measurement
from noctile.pipeline.metrics.region_counts import RegionCounts
from noctile.pipeline.models.card import ClassInfo, ModelCard
from noctile.pipeline.report import plots
from noctile.pipeline.report.gallery import MAX_SAMPLES, draw_gallery, shrink_sample
from noctile.pipeline.report.page import Subject, describe_intervals, evaluation_page
from noctile.pipeline.report.plots import plot_confusion, plot_curves, plot_reliability
from noctile.pipeline.report.published import PUBLISHED, STUDY
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import BUILT_IN, IGNORED, ClassScheme


def history(classes: list[str], epochs: int, *, validated: bool = True) -> list[dict[str, float]]:
    """Dice rises up to the last but one epoch."""
    rows = []
    for k in range(1, epochs + 1):
        dice = min(k, 2 * epochs - 2 - k) / epochs if validated else math.nan
        row = {"epoch": k, "step": 10 * k, "seconds": 1.0, "lr": 1e-3, "train_loss": 1 / k}
        row |= {"val_loss": 2 / k if validated else math.nan, "val_dice_mean": dice}
        rows.append(row | {f"val_dice_{name}": dice + 0.01 for name in classes})
    return rows


def measured(
    scheme: ClassScheme, patients: str = "abc", region: str = "region", seed: int = 0
) -> Measurement:
    n = len(scheme.classes)
    rng = np.random.default_rng(seed)
    scores = []
    for k, patient in enumerate(patients):
        confusion = rng.integers(0, 100, (n, n)) + 900 * np.eye(n, dtype=np.int64)
        bins = np.zeros((N_BINS, 3))
        bins[12] = confusion.sum(), 0.82 * confusion.sum(), np.trace(confusion)
        place = Region(f"{region}{k}", patient, "OL", "BCSS", image=None, truth=None)
        scores.append(
            RegionCounts(place, confusion, bins, np.stack([confusion // 2] * 2), (200, 120, 171))
        )
    return Measurement(scheme.classes, tuple(scores))


def subject(scheme: ClassScheme, **about: object) -> Subject:
    fields = {
        "name": "mine",
        "description": "a model",
        "mpp": 0.5,
        "sha256": "0" * 64,
        "licence": "CC0-1.0",
    }
    card = ModelCard(
        **fields
        | {"classes": scheme.classes}
        | {k: v for k, v in about.items() if k == "description"}
    )
    return Subject(
        card,
        scheme,
        str(about.get("split", "side test of the model's own split")),
        about.get("notes", ()),
    )


def png(width: int = 4, height: int = 3) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


PICTURES = {name: png(k + 1) for k, name in enumerate(("confusion", "reliability", "gallery"))}


def page(
    scheme: str = "bcss5", patients: str = "abc", region: str = "region", **about: object
) -> str:
    built_in = BUILT_IN[scheme]
    return evaluation_page(
        subject(built_in, **about), measured(built_in, patients, region), PICTURES
    )


class Reader(HTMLParser):
    """Tags with their attributes, and the cells of each row of each table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data

    def row(self, start: str, column: str) -> dict[str, str]:
        """The row whose first cell begins so, of the table that has such a column: cells by the
        columns' names."""
        heads: list[str] = []
        found = []
        for row in self.rows:
            cells = [cell.strip() for cell in row]
            if "".join(cells[:1]) in (
                "class",
                "source, split, definition",
                "region",
                "institute",
                "source",
            ):
                heads = cells
            elif cells and cells[0].startswith(start) and column in heads:
                found.append(dict(zip(heads, cells, strict=True)))
        (only,) = found
        return only


FIVE = ["tumor", "stroma", "inflammatory", "necrosis", "other", "all"]


def five(row: dict[str, str]) -> list[str]:
    """The Dice in a row, without intervals."""
    return [row[name][:5] for name in FIVE]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots return what they have drawn, not a PNG of it."""
    monkeypatch.setattr(plots, "_png", lambda figure: figure)


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
    def test_without_validation_there_is_the_training_loss_alone_and_it_says_so(self) -> None:
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
    def test_of_21_classes_only_shares_that_can_be_seen_are_written(self) -> None:
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


CLASSES = tuple(
    ClassInfo(code=k + 1, name=name, color=color, role="tissue")
    for k, (name, color) in enumerate(
        {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}.items()
    )
)


def halves(height: int, width: int) -> LabelledPixels:
    """Grey; the left half is class 0, the right is not scored."""
    targets = np.zeros((height, width), np.uint8)
    targets[:, width // 2 :] = IGNORED
    return LabelledPixels(np.full((height, width, 3), 77, np.uint8), targets, 0.5)


class TestGallery:
    def test_image_truth_and_prediction_stand_side_by_side_in_the_classes_colors(self) -> None:
        one = shrink_sample("r", "", halves(300, 300), np.ones((300, 300), np.uint8))
        picture = np.asarray(Image.open(io.BytesIO(draw_gallery([one], CLASSES))))
        wanted = [(77, 77, 77), (255, 0, 0), (0, 255, 0)]
        first = [np.flatnonzero((picture[150] == color).all(axis=1))[0] for color in wanted]
        assert first == sorted(first)
        areas = [(picture == color).all(axis=2).sum() for color in wanted]
        assert areas == pytest.approx([256 * 256, 256 * 128, 256 * 256], rel=0.02)

    def test_the_legend_names_only_what_can_be_seen(self) -> None:
        one = shrink_sample("r", "", halves(64, 64), np.ones((64, 64), np.uint8))
        colors = {
            tuple(c)
            for c in np.asarray(Image.open(io.BytesIO(draw_gallery([one], CLASSES)))).reshape(-1, 3)
        }
        assert {(255, 0, 0), (0, 255, 0)} <= colors
        assert (0, 0, 255) not in colors

    def test_large_regions_are_reduced_and_keep_their_shape(self) -> None:
        one = shrink_sample("r", "", halves(2000, 4000), np.zeros((2000, 4000), np.uint8))
        assert one.rgb.shape == (128, 256, 3)
        assert one.truth.shape == one.predicted.shape == (128, 256)
        assert (one.truth[:, :128] == 0).all()
        assert (one.truth[:, 128:] == IGNORED).all()

    @pytest.mark.parametrize("n", [1, 3, MAX_SAMPLES])
    def test_it_has_room_for_each_region_and_none_covers_another(self, n: int) -> None:
        samples = []
        for k in range(n):
            known = LabelledPixels(
                np.full((64, 64, 3), 100 + k, np.uint8), np.zeros((64, 64), np.uint8), 0.5
            )
            samples.append(
                shrink_sample("x" * 200, "99.9 % right", known, np.zeros((64, 64), np.uint8))
            )
        picture = np.asarray(Image.open(io.BytesIO(draw_gallery(samples, CLASSES))))
        for k in range(n):
            assert (picture == 100 + k).all(axis=2).sum() > 254 * 254


class TestPage:
    def test_it_needs_no_other_file_and_no_network(self) -> None:
        html = page()
        reader = Reader(html)
        assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "iframe", "object"})
        sources = [attrs["src"] or "" for tag, attrs in reader.tags if "src" in attrs]
        found = [
            base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
            for source in sources
        ]
        assert sorted(found) == sorted(PICTURES.values())
        assert "http" not in html
        assert "url(" not in html
        assert not [attrs for _, attrs in reader.tags if "href" in attrs]

    def test_no_text_of_the_data_becomes_markup(self) -> None:
        html = page(
            region="<img src=x onerror=alert(1)>&",
            description="<script>1</script>",
            notes=("<b>n</b>",),
        )
        assert "<script>1" not in html
        assert "onerror=alert(1)&gt;&amp;" in html
        assert "&lt;b&gt;n&lt;/b&gt;" in html
        assert not [attrs for _, attrs in Reader(html).tags if "onerror" in attrs]

    def test_the_studys_figures_stand_with_its_split_and_the_harmonic_mean_of_its_own_p_and_r(
        self,
    ) -> None:
        assert pytest.approx(0.9313, abs=1e-4) == STUDY.f1
        html = page()
        for text in (
            "95.4 %",
            "94.5 %",
            "91.8 %",
            "92.05 %",
            "93.1 %",
            "not said to be by patient",
        ):
            assert text in html
        ours = Reader(html).row("mine", "pixel accuracy")
        tumor = measured(BUILT_IN["bcss5"]).tumor.pooled
        figures = {"P": "precision", "R": "recall", "F1": "f1"}
        assert {k: ours[k] for k in figures} == {
            k: f"{100 * tumor.values(m)[0]:.1f} %" for k, m in figures.items()
        }
        assert "own split" in ours["source, split, definition"]

    def test_the_published_dice_stand_with_their_split_and_definition_beside_ours(self) -> None:
        reader = Reader(page("bcss5"))
        amgad, toolbox = (reader.row(published.source, "necrosis") for published in PUBLISHED)
        assert five(amgad) == ["0.851", "0.800", "0.712", "0.723", "0.666", "0.750"]
        assert five(toolbox) == ["0.885", "0.825", "0.761", "0.765", "0.581", "0.763"]
        for row in (amgad, toolbox):
            assert "official test institutes" in row["source, split, definition"]
            assert "Dice per class" in row["source, split, definition"]
        pooled = measured(BUILT_IN["bcss5"]).estimates.pooled
        assert five(reader.row("mine", "necrosis")) == [
            f"{value:.3f}" for value in (*pooled.dice, pooled.mean("f1"))
        ]

    def test_the_means_of_the_published_figures_are_those_of_their_classes(self) -> None:
        for published in PUBLISHED:
            *each, whole = published.dice.values()
            assert whole == pytest.approx(np.mean(each), abs=5.01e-4)

    def test_a_model_of_two_classes_has_only_its_tumor_dice_beside_them(self) -> None:
        dice = measured(BUILT_IN["tumor"]).estimates.pooled.dice[0]
        assert five(Reader(page("tumor")).row("mine", "necrosis")) == [f"{dice:.3f}", *"–" * 5]

    def test_21_classes_are_merged_to_the_published_five_and_those_that_no_mean_counts_are_marked(
        self,
    ) -> None:
        reader = Reader(page("bcss21"))
        confusion = measured(BUILT_IN["bcss21"]).confusion
        codes = {info.code: k for k, info in enumerate(BUILT_IN["bcss21"].classes)}
        tumor, unsure = [codes[c] for c in (1, 19, 20)], [codes[c] for c in (7, 15)]
        known = np.delete(confusion, unsure, axis=0)
        tp = confusion[np.ix_(tumor, tumor)].sum()
        dice = 2 * tp / (confusion[tumor].sum() + known[:, tumor].sum())
        assert five(reader.row("mine", "necrosis"))[0] == f"{dice:.3f}"
        marked = [row[0].split()[0] for row in reader.rows if row and "not in the mean" in row[0]]
        assert marked == ["exclude", "undetermined"]

    def test_a_class_that_is_not_in_the_truth_has_no_figures_and_breaks_nothing(self) -> None:
        scheme = BUILT_IN["bcss5"]
        one = measured(scheme, "a")
        one.regions[0].confusion[3] = 0
        reader = Reader(evaluation_page(subject(scheme), one, PICTURES))
        assert list(reader.row("necrosis", "IoU").values())[1:] == ["0.0 %", "–", "–", "–", "–"]
        assert [cell == "–" for cell in five(reader.row("mine", "necrosis"))] == [
            False,
            False,
            False,
            True,
            False,
            True,
        ]

    def test_stain_and_patient_of_each_region_can_be_seen(self) -> None:
        html = page()
        assert "#c878ab" in html
        assert Reader(html).row("region1", "stain")["patient"] == "b"

    def test_notes_are_shown(self) -> None:
        assert "trained on these regions" in page(notes=("The model was trained on these regions",))


class TestIntervalsInWords:
    def test_patients_blocks_or_nothing_are_named(self) -> None:
        scheme = BUILT_IN["tumor"]
        assert "of 3 patients" in describe_intervals(measured(scheme, "abc"), 0.5)
        blocks = describe_intervals(measured(scheme, "ab"), 0.5)
        assert "4 blocks of 512 px (256 µm)" in blocks
        assert "nothing of other patients" in blocks
        assert describe_intervals(measured(scheme, "a"), 0.5).startswith(
            "No intervals: there are only 1 patient and 2 blocks"
        )

    def test_few_units_are_said_to_give_intervals_that_are_too_narrow(self) -> None:
        scheme = BUILT_IN["tumor"]
        assert "too narrow" in describe_intervals(measured(scheme, "abcdef"), 0.5)
        assert "too narrow" not in describe_intervals(
            measured(scheme, "abcdefghijklmnopqrstuvwxyz"), 0.5
        )
