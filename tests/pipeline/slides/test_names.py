"""Rules for slide ids and paths."""

import pytest

from noctile.pipeline.slides.names import MAX_ID_BYTES, fold_name, path_problem, slide_id_problem


@pytest.mark.parametrize("slide_id", ["a", "case 7", "S-1.2_x", "ü", "nula", "a" * MAX_ID_BYTES])
def test_ordinary_slide_ids_have_no_problem(slide_id: str) -> None:
    assert slide_id_problem(slide_id) is None


@pytest.mark.parametrize(
    ("slide_id", "problem"),
    [
        ("", "empty"),
        (" a", "space"),
        (".a", "begins with a dot"),
        ("a/b", "control character or one of"),
        ("a\x7f", "control character or one of"),
        ("a\u202eb", "cannot be printed"),
        ("a" * (MAX_ID_BYTES + 1), "longer than"),
        ("a.", "Windows"),
        ("nul", "Windows"),
        ("CON.svs", "Windows"),
    ],
)
def test_slide_ids_that_cannot_name_a_folder_have_a_reason(slide_id: str, problem: str) -> None:
    assert problem in (slide_id_problem(slide_id) or "")


def test_paths_with_control_characters_or_other_encodings_have_a_reason() -> None:
    assert path_problem("/a b/\t\u00fc.svs") is None
    assert path_problem("/a\x1b[2J.svs") == "has a control character or a line break"
    assert path_problem("/a\u2028.svs") == "has a control character or a line break"
    assert path_problem("/caf\udce9.svs") == "is not UTF-8"


def test_names_that_differ_in_case_or_composition_fold_to_one() -> None:
    assert fold_name("Stra\u00dfe") == fold_name("STRASSE")
    assert fold_name("caf\u00e9") == fold_name("CAFE\u0301")
    assert fold_name("a") != fold_name("b")
