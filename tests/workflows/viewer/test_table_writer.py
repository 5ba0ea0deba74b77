"""Tables that show a review soon after it was saved."""

import csv
import time

import pytest
from viewer_client import make_results

from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.lease import Lease
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.viewer.table_writer import TableWriter, write_tables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("viewer"))


@pytest.fixture
def results(folder):
    return ResultsFolder(folder / "results")


def statuses(results):
    with results.cohort_csv.open(encoding="utf-8", newline="") as file:
        return {row["slide_id"]: row["review_status"] for row in csv.DictReader(file)}


def save(reviews, status):
    reviews.save("a", "ada", status, "", reviews.of("a").version)


def test_the_tables_have_a_review_after_a_pause(results):
    writer = TableWriter(results, pause_s=0.05)
    save(Reviews(results, saved=writer.changed), "rejected")
    deadline = time.monotonic() + 20
    while statuses(results)["a"] != "rejected" and time.monotonic() < deadline:
        time.sleep(0.02)
    writer.close()
    assert statuses(results) == {"a": "rejected", "broken": ""}


def test_a_review_just_before_the_end_is_in_the_tables(results):
    writer = TableWriter(results, pause_s=60)
    save(Reviews(results, saved=writer.changed), "accepted")
    writer.close()
    assert statuses(results)["a"] == "accepted"
    assert "<td>accepted</td>" in results.index.read_text(encoding="utf-8")


def test_a_run_that_holds_the_folder_writes_its_own_tables(results):
    before = results.cohort_csv.stat().st_mtime_ns
    lease = Lease(results.path, lambda reason: None)
    try:
        save(Reviews(results), "look_again")
        write_tables(results)
        assert results.cohort_csv.stat().st_mtime_ns == before
    finally:
        lease.close()
    write_tables(results)
    assert statuses(results)["a"] == "look_again"


def test_nothing_is_written_without_a_review(results):
    before = results.cohort_csv.stat().st_mtime_ns
    TableWriter(results, pause_s=0).close()
    assert results.cohort_csv.stat().st_mtime_ns == before
