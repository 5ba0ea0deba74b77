"""Methods paragraph and items of reporting guidelines."""

from cohort_results import failed_row, joined_cohort, planted_clinical, planted_rows

from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.methods import (
    AUTHORS,
    Origin,
    checklist,
    methods_markdown,
    methods_paragraphs,
)
from noctile.pipeline.patients.question import Cut, make_question

ORIGIN = Origin(
    (("tumor", "a1b2"),), (("overlap_px", "128"),), {"noctile": "1.0", "scipy": "1.17"}, ("r1",)
)


def made(by="subtype"):
    clinical = planted_clinical(30)
    joined = joined_cohort([*planted_rows(30), failed_row("f")], clinical)
    cut = [Cut("tumor_area_mm2", 50)]
    return joined, analyse(joined, make_question(joined, by, "os_months", "os_event", cut))


def test_the_paragraphs_say_what_was_done():
    text = "\n".join(methods_paragraphs(*made(), ORIGIN))
    for part in (
        "the model tumor (sha256 a1b2)",
        "overlap_px 128",
        "unreadable 1",
        "fractions are ratios of these sums",
        "Mann-Whitney",
        "Holm",
        "Kaplan-Meier",
        "tumor_area_mm2 at 50",
        "noctile 1.0, scipy 1.17",
    ):
        assert part in text
    assert "Spearman" in "\n".join(methods_paragraphs(*made("age"), ORIGIN))


def test_items_are_filled_in_or_left_to_the_authors():
    items = checklist(*made(), ORIGIN)
    known = {item.guideline: item.text for item in items if not item.text.startswith(AUTHORS)}
    assert known["CLAIM 22"] == "tumor, sha256 a1b2"
    assert "CLAIM 33" in known
    assert any(item.text.startswith(AUTHORS) for item in items)


def test_names_of_users_are_no_markup():
    rows = [{**row, "sub|<b>": row["subtype"]} for row in planted_clinical(20)]
    joined = joined_cohort(planted_rows(20), rows)
    analysis = analyse(joined, make_question(joined, "sub|<b>", None, None))
    about = joined, analysis, ORIGIN
    text = methods_markdown(methods_paragraphs(*about), checklist(*about), ["a\n# b"])
    assert "sub\\|\\<b\\>" in text
    assert "sub|" not in text
    assert "- a \\# b\n" in text
