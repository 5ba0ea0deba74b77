"""Rules for slide ids and paths."""

from itertools import islice
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.slides.names import (
    MAX_ID_BYTES,
    fold_name,
    longer_ids,
    path_problem,
    safe_id,
    shown_path,
    slide_id_problem,
)


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


def test_a_shown_path_has_no_characters_that_break_lines_or_encodings() -> None:
    assert shown_path(PurePosixPath("/a b/\u00fc.svs")) == "/a b/\u00fc.svs"
    assert shown_path("/a\n/caf\udce9\x1b.svs") == "/a\\n/caf\\udce9\\x1b.svs"


@pytest.mark.parametrize(
    ("name", "slide_id"),
    [
        ("case 7", "case 7"),
        ("..a", "a"),
        ("a/b:c", "a_b_c"),
        ("CON", "slide_CON"),
        ("nul.a", "nul_a"),
        ("caf\udce9", "caf"),
        ("\n", "slide"),
        ("x" * 200, "x" * MAX_ID_BYTES),
    ],
)
def test_a_name_is_made_safe_without_a_hash(name: str, slide_id: str) -> None:
    assert safe_id(name) == slide_id


@given(st.text(max_size=200))
def test_any_name_is_made_safe(name: str) -> None:
    assert slide_id_problem(safe_id(name)) is None


def test_longer_ids_have_folders_in_front_and_then_numbers() -> None:
    path = PurePosixPath("/site/P:1/HE.svs")
    assert [*islice(longer_ids("HE", path), 4)] == ["P_1_HE", "site_P_1_HE", "HE_2", "HE_3"]
    assert [*islice(longer_ids("P_1_HE", path), 2)] == ["site_P_1_HE", "P_1_HE_2"]
    assert [*islice(longer_ids("S1", path), 3)] == ["P_1_S1", "site_P_1_S1", "S1_2"]


@given(st.text(max_size=140), st.lists(st.text(max_size=60), max_size=3))
def test_longer_ids_are_safe_and_do_not_end(stem: str, folders: list[str]) -> None:
    slide_id = safe_id(stem)
    longer = [*islice(longer_ids(slide_id, PurePosixPath("/", *folders, "a.svs")), 20)]
    assert slide_id not in longer
    assert len(set(longer)) >= 17  # a folder 2 may give 2_2, and so may the numbers
    assert [name for name in longer if slide_id_problem(name)] == []
