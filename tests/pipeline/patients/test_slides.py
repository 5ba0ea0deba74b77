"""Fate, flags and figures of the slides of a cohort."""

from cohort_results import failed_row, slide_row

from noctile.pipeline.cohort import cohort_table, manifest_headers
from noctile.pipeline.patients.slides import CohortSlide, cohort_slides


def slides_of(*rows) -> dict[str, CohortSlide]:
    table = cohort_table(rows, ("tumor", "stroma"))
    found = cohort_slides(table.to_pylist(), manifest_headers(table.schema))
    return {slide.slide_id: slide for slide in found}


def test_each_slide_has_a_fate_with_its_reason():
    found = slides_of(
        slide_row("good"), failed_row("bad", "unreadable"), slide_row("no", review="rejected")
    )
    fates = {name: (slide.fate, slide.reason) for name, slide in found.items()}
    assert fates == {
        "good": ("analysed", ""),
        "bad": ("not_done", "unreadable"),
        "no": ("rejected", "rejected"),
    }
    assert found["bad"].message == "tile 3 is cut short"
    assert "ann" in found["no"].message
    assert found["no"].figures == {}


def test_a_rejection_of_an_earlier_result_counts_and_says_so():
    row = slide_row("s", review="rejected")
    row.review["reviewed_result"] = "earlier"
    assert "another model" in slides_of(row)["s"].message


def test_a_flag_counts_unless_a_reviewer_accepted_this_result():
    earlier = slide_row("earlier", flags=["blurred"], review="accepted")
    earlier.review["reviewed_result"] = "earlier"
    found = slides_of(
        earlier,
        slide_row("plain"),
        slide_row("flag", flags=["blurred"]),
        slide_row("accepted", flags=["blurred"], review="accepted"),
        slide_row("again", review="look_again"),
    )
    flagged = {name for name, slide in found.items() if slide.flagged}
    assert flagged == {"flag", "again", "earlier"}


def test_areas_leave_out_the_regions_of_reviewers():
    row = slide_row("s", 4.0, 10.0)
    row.review.update(reviewed_tissue_area_mm2=8.0, reviewed_tumor_area_mm2=3.0)
    slide = slides_of(row)["s"]
    assert slide.regions_left_out
    assert slide.figures["tumor_mm2"] == 3
    assert slide.figures["other_tissue_mm2"] == 5
    assert slide.figures["whole_tumor_mm2"] == 4


def test_cells_of_the_manifest_have_their_headers():
    rows = [slide_row("a", extra=(("grade", "2"), ("path", "x"))), slide_row("b")]
    found = slides_of(*rows)
    assert found["a"].cells == {"grade": "2", "path": "x"}
    assert found["b"].cells == {}
