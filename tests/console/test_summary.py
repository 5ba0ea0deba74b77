"""Short tables for many slides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.console.summary import audit_line, group_lines, grouped, review_counts, shortened
from noctile.workflows.commands.status import AuditStatus

FAILED = [("unopenable", f"TCGA-BRCA-2019-batch{n % 7}-a-long-name-{n:05d}") for n in range(25)]
FAILED += [("mpp_missing", f"S{n}") for n in range(10)] + [("timeout", "S77")]


def test_a_text_is_shortened_in_the_middle():
    assert shortened("a-slide-with-a-long-name-0042", 16) == "a-slide...e-0042"
    assert shortened("a", 16) == "a"


def test_the_largest_group_comes_first():
    assert [(reason, len(ids)) for reason, ids in grouped(FAILED).items()] == [
        ("unopenable", 25),
        ("mpp_missing", 10),
        ("timeout", 1),
    ]


def test_a_group_is_a_line_with_its_number_and_first_slides():
    assert group_lines("failed", grouped(FAILED), 60) == [
        "failed       slides  first of them",
        "unopenable       25  TCGA-BRCA-2...name-00000, ...",
        "mpp_missing      10  S0, S1, S2, ...",
        "timeout           1  S77",
    ]


def test_no_failure_is_no_table():
    assert group_lines("failed", {}, 60) == []


def test_the_line_of_an_audit_is_short_for_many_readers():
    line = audit_line(AuditStatus(300, {f"reader{n}": n for n in range(50)}))
    assert line.endswith("reader9 9, ...")


@pytest.mark.parametrize("width", [60, 80, 120])
@given(
    pairs=st.lists(
        st.tuples(
            st.integers(0, 40).map(lambda n: f"reason_{n}" * (1 + n % 6)),
            st.text("abc-_0123456789", min_size=1, max_size=200),
        ),
        max_size=300,
    )
)
def test_any_failures_fit_the_terminal_in_few_lines(width, pairs):
    lines = group_lines("failed", grouped(pairs), width)
    assert len(lines) <= 12
    assert max(map(len, lines), default=0) <= width
    shown = [line.split() for line in lines[1:]]
    assert sum(int(next(w for w in words[1:] if w.isdigit())) for words in shown) == len(pairs)


def test_reviews_are_a_part_of_a_line():
    assert review_counts({"rejected": 1, "look_again": 2, "accepted": 0}) == (
        "; reviewed: 2 look again, 1 rejected"
    )
    assert review_counts({}) == ""
