"""The page holds all figures with their origin, and no text of the data becomes markup."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from metric_inputs import measurement_of
from PIL import Image

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.report.page import Subject, describe_intervals, evaluation_page
from noctile.pipeline.report.published import PUBLISHED, STUDY
from noctile.pipeline.truth.scheme import BUILT_IN, ClassScheme


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
        subject(built_in, **about), measurement_of(built_in, patients, region), PICTURES
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
        tumor = measurement_of(BUILT_IN["bcss5"]).tumor.pooled
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
        pooled = measurement_of(BUILT_IN["bcss5"]).estimates.pooled
        assert five(reader.row("mine", "necrosis")) == [
            f"{value:.3f}" for value in (*pooled.dice, pooled.mean("f1"))
        ]

    def test_a_model_of_two_classes_is_compared_by_its_tumor_dice(self) -> None:
        dice = measurement_of(BUILT_IN["tumor"]).estimates.pooled.dice[0]
        assert five(Reader(page("tumor")).row("mine", "necrosis")) == [f"{dice:.3f}", *"–" * 5]

    def test_21_classes_are_merged_to_the_published_five_and_those_that_no_mean_counts_are_marked(
        self,
    ) -> None:
        reader = Reader(page("bcss21"))
        confusion = measurement_of(BUILT_IN["bcss21"]).confusion
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
        one = measurement_of(scheme, "a")
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

    def test_stain_and_patient_of_each_region_are_shown(self) -> None:
        html = page()
        assert "#c878ab" in html
        assert Reader(html).row("region1", "stain")["patient"] == "b"

    def test_notes_are_shown(self) -> None:
        assert "trained on these regions" in page(notes=("The model was trained on these regions",))


class TestDescribeIntervals:
    def test_patients_blocks_or_nothing_are_named(self) -> None:
        scheme = BUILT_IN["tumor"]
        assert "of 3 patients" in describe_intervals(measurement_of(scheme, "abc"), 0.5)
        blocks = describe_intervals(measurement_of(scheme, "ab"), 0.5)
        assert "4 blocks of 512 px (256 µm)" in blocks
        assert "nothing of other patients" in blocks
        assert describe_intervals(measurement_of(scheme, "a"), 0.5).startswith(
            "No intervals: there are only 1 patient and 2 blocks"
        )

    def test_few_units_have_a_warning_about_narrow_intervals(self) -> None:
        scheme = BUILT_IN["tumor"]
        assert "too narrow" in describe_intervals(measurement_of(scheme, "abcdef"), 0.5)
        assert "too narrow" not in describe_intervals(
            measurement_of(scheme, "abcdefghijklmnopqrstuvwxyz"), 0.5
        )
