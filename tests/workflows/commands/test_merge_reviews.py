"""Reviews of one folder of results that come to another one."""

import numpy as np
import pytest
from label_results import write_result

from noctile.workflows.commands.merge_reviews import take_reviews
from noctile.workflows.commands.merge_source import Source
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews

LABELS = np.ones((60, 90), np.uint8)


@pytest.fixture
def source(tmp_path) -> Source:
    write_result(tmp_path / "from", LABELS, "a")
    reviews = Reviews(ResultsFolder(tmp_path / "from"))
    reviews.save("a", "ada", "accepted", "good", "")
    reviews.save("a", "bob", "rejected", "bad", "")
    path = ResultsFolder(tmp_path / "from").review_csv
    head, ada, bob = path.read_text().splitlines()
    path.write_text("\n".join([head, ada, bob.rpartition(",")[0] + ","]) + "\n")
    return Source(tmp_path / "from")


@pytest.fixture
def target(tmp_path) -> Reviews:
    write_result(tmp_path / "to", LABELS, "new")
    return Reviews(ResultsFolder(tmp_path / "to"))


def test_a_row_that_names_no_result_gets_the_one_that_is_given(source, target):
    told = take_reviews(source, target, {"a": "new"}, "key of {}".format)
    rows = {row.reviewer: (row.status, row.result) for row in target.of("new").reviews}
    assert rows == {"ada": ("accepted", "k"), "bob": ("rejected", "key of a")}
    assert (told.damaged, told.notes) == ([], [])


def test_a_row_that_stands_stays_and_is_named(source, target):
    target.save("new", "ada", "look_again", "", "")
    told = take_reviews(source, target, {"a": "new", "other": "other"})
    assert [(r.reviewer, r.status) for r in target.of("new").reviews] == [
        ("ada", "look_again"),
        ("bob", "rejected"),
    ]
    assert [note.partition("; that")[0] for note in told.notes] == ["new: the review by ada stays"]


def test_slides_that_do_not_come_along_leave_their_reviews_behind(source, target):
    take_reviews(source, target, {})
    assert target.all() == []


def test_damaged_regions_are_named_and_the_rows_come(source, target):
    source.results.review_regions("a").write_text("[1]")
    told = take_reviews(source, target, {"a": "new"})
    assert [line.partition(": ")[0] for line in told.damaged] == [
        f"regions in the review of a of {source.name} are left out"
    ]
    assert len(target.of("new").reviews) == 2
