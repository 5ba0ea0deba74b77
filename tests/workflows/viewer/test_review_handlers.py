import pytest
from viewer_client import Book

from noctile.pipeline.errors import StoreError
from noctile.workflows.viewer.review_handlers import REVIEW_BYTES

REVIEW = {"status": "rejected", "note": "pen", "version": "0"}


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def client(viewed, serve, book):
    with serve(viewed / "results", "ada", book) as client:
        yield client


def test_a_review_is_saved_under_the_reviewers_name(client, book):
    answer = client.put("api/slides/a/review", REVIEW)
    assert answer.status == 200
    assert answer.json["reviews"][0]["reviewer"] == "ada"
    assert (answer.json["version"], answer.json["conflict"]) == ("1", False)
    assert [(row.slide_id, row.status, row.note) for row in book.rows] == [("a", "rejected", "pen")]


def test_a_saved_review_is_in_the_list_and_in_the_description(client):
    client.put("api/slides/a/review", REVIEW)
    rows = {row["slide_id"]: row for row in client.get("api/slides").json["slides"]}
    assert (rows["a"]["review_status"], rows["broken"]["review_status"]) == ("rejected", "")
    assert client.get("api/slides/a").json["review"]["reviews"][0]["note"] == "pen"


def test_regions_are_saved(client, book):
    answer = client.put("api/slides/a/regions", {"features": [{"id": "x"}], "version": "0"})
    assert answer.json["regions"]["features"] == [{"id": "x"}]
    assert book.features == [{"id": "x"}]


@pytest.mark.parametrize("path", ["review", "regions"])
def test_an_old_version_is_a_conflict_and_changes_nothing(client, book, path):
    client.put("api/slides/a/review", REVIEW)
    old = REVIEW | {"status": "accepted", "features": []}
    answer = client.put(f"api/slides/a/{path}", old)
    assert answer.status == 409
    assert answer.json["conflict"] is True
    assert answer.json["reviews"][0]["status"] == "rejected"
    assert book.rows[0].status == "rejected"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.example"},
    ],
)
def test_other_pages_save_nothing(client, book, headers):
    assert client.put("api/slides/a/review", REVIEW, **headers).status == 403
    assert book.rows == []


def test_without_the_token_nothing_is_saved(client, book):
    assert client.send("PUT", "/wrong/api/slides/a/review", b"{}").status == 403
    assert book.rows == []


@pytest.mark.parametrize("slide_id", ["broken", "unknown", "..%2Fa", "%2e%2e", "a%00"])
def test_only_slides_that_are_done_are_reviewed(client, book, slide_id):
    assert client.put(f"api/slides/{slide_id}/review", REVIEW).status == 404
    assert book.rows == []


@pytest.mark.parametrize("values", [{}, [], None, REVIEW | {"status": "x"}, REVIEW | {"note": 1}])
def test_other_bodies_are_refused(client, book, values):
    answer = client.put("api/slides/a/review", values)
    assert answer.status == 400
    assert answer.json["error"]
    assert book.rows == []


def test_large_bodies_are_refused(client, book):
    answer = client.put("api/slides/a/review", REVIEW | {"more": "x" * REVIEW_BYTES})
    assert answer.status == 400
    assert book.rows == []


def test_an_error_while_saving_is_named(client, book, monkeypatch):
    def fail(*_):
        raise StoreError("review.csv cannot be written: the disk is full")

    monkeypatch.setattr(book, "save", fail)
    answer = client.put("api/slides/a/review", REVIEW)
    assert (answer.status, answer.json["error"]) == (
        400,
        "review.csv cannot be written: the disk is full",
    )


def test_a_viewer_without_reviews_saves_none(viewed, serve):
    with serve(viewed / "results") as client:
        assert client.get("api/slides/a").json["review"] is None
        assert client.put("api/slides/a/review", REVIEW).status == 400
