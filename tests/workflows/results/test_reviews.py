"""Reviews on disk: nothing that a reviewer has said is lost."""

import json
import multiprocessing
import os
import time
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest
from disk_faults import Fault, planted, without_syncs
from label_results import write_result

from noctile.pipeline.errors import ReviewConflictError, StoreError, UsageError
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger_state import LedgerState
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.standing import Standing

REGION = {
    "type": "Feature",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [40, 0], [40, 40], [0, 40], [0, 0]]]},
    "properties": {"classification": {"name": "pen"}},
}


@pytest.fixture
def results(tmp_path):
    labels = np.full((60, 90), 2, np.uint8)
    labels[:30, :30] = 1
    write_result(tmp_path / "out", labels, "a", native_mpp=0.25)
    write_result(tmp_path / "out", labels, "b")
    return ResultsFolder(tmp_path / "out")


@pytest.fixture
def reviews(results):
    return Reviews(results, now=lambda: datetime(2026, 11, 29, 6, tzinfo=UTC))


def summary(results, slide_id="a"):
    return read_required_json(results.slide(slide_id).summary)


def test_a_review_is_read_as_it_was_saved(reviews, results):
    saved = reviews.save("a", "ada", "accepted", "=fold, top\nleft", "")
    row = saved.reviews[0]
    assert (row.reviewer, row.status, row.note) == ("ada", "accepted", "=fold, top\nleft")
    assert row.time == "2026-11-29T06:00:00Z"
    assert row.result == summary(results)["key"] == "k"
    assert Reviews(results).of("a") == saved
    assert Reviews(results).of("b").reviews == ()


def test_a_reviewer_cannot_change_what_another_has_said(reviews):
    first = reviews.save("a", "ada", "accepted", "good", "")
    second = reviews.save("a", "bob", "rejected", "bad", first.version)
    drawn = reviews.save_regions("a", "ada", [REGION], second.version)
    kept = reviews.save_regions("a", "bob", drawn.regions["features"], drawn.version)
    assert kept == drawn  # the features of ada among those of bob change nothing
    gone = reviews.save_regions("a", "bob", [], kept.version)
    assert gone == drawn
    assert [row.status for row in gone.reviews] == ["accepted", "rejected"]


def test_an_older_view_of_ones_own_review_is_a_conflict(reviews):
    first = reviews.save("a", "ada", "accepted", "one tab", "")
    with pytest.raises(ReviewConflictError) as conflict:
        reviews.save("a", "ada", "rejected", "another tab", "")
    assert conflict.value.current == first
    with pytest.raises(ReviewConflictError):
        reviews.save_regions("a", "ada", [REGION], "")
    reviews.save("a", "bob", "rejected", "", "")  # another reviewer may have seen nothing yet
    reviews.save("a", "ada", "rejected", "", first.version)  # and holds up no one


def test_the_history_has_everything_that_was_ever_saved(reviews, results):
    first = reviews.save("a", "ada", "accepted", "first", "")
    second = reviews.save("a", "ada", "", "", first.version)
    third = reviews.save_regions("a", "ada", [REGION], second.version)
    reviews.save_regions("a", "ada", [], third.version)
    lines = (results.review / "history.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["review", "review", "regions", "regions"]
    assert events[0]["note"] == "first"
    assert events[2]["features"][0]["geometry"] == REGION["geometry"]


def test_areas_without_regions_stand_beside_the_raw_ones_and_are_kept(
    reviews, results, monkeypatch
):
    about = summary(results)
    assert reviews.area_cells("a", about) == {}
    reviews.save_regions("a", "ada", [REGION], "")
    cells = reviews.area_cells("a", about)
    pixel = 0.5 * 0.5 / 1e6
    assert cells["excluded_area_mm2"] == pytest.approx(400 * pixel)
    assert cells["reviewed_tissue_area_mm2"] == pytest.approx(5000 * pixel, abs=1e-6)
    assert cells["reviewed_tumor_area_mm2"] == pytest.approx(500 * pixel, abs=1e-6)
    with monkeypatch.context() as patch:
        patch.setattr("noctile.workflows.results.reviews.reviewed_areas", None)
        assert reviews.area_cells("a", about) == cells
    again = about | {"tumor_area_mm2": about["tumor_area_mm2"] * 2}  # the slide was done again
    assert reviews.area_cells("a", again) != cells


def test_a_reader_that_writes_nothing_computes_the_same(reviews, results):
    reviews.save_regions("a", "ada", [REGION], "")
    reader = Reviews(results, keeps_areas=False)
    cells = reader.area_cells("a", summary(results))
    assert not results.review_areas("a").exists()
    assert cells == reviews.area_cells("a", summary(results))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b'{"features": 5}', b"[" * 500])
def test_damaged_regions_are_named_and_never_replaced(reviews, results, content):
    reviews.save("b", "ada", "accepted", "", "")
    path = results.review_regions("a")
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.geojson cannot be read: .*mend it"):
        reviews.of("a")
    with pytest.raises(StoreError, match=r"a\.geojson"):
        reviews.save_regions("a", "ada", [REGION], "")
    assert path.read_bytes() == content
    assert reviews.of("b").reviews


@pytest.mark.parametrize(
    "content", [b"", b"slide,good\n", b"\xff\xff", b'slide_id,reviewer,status\n"a']
)
def test_a_damaged_table_of_reviews_is_named_and_never_replaced(reviews, results, content):
    results.review_csv.write_bytes(content)
    with pytest.raises(StoreError, match=r"review\.csv cannot be read: .*mend it"):
        reviews.save("a", "ada", "accepted", "", "")
    assert results.review_csv.read_bytes() == content


@pytest.mark.parametrize("name", ["review", "review.csv", "review/a.geojson"])
def test_links_are_not_written_through(reviews, results, tmp_path, name):
    outside = tmp_path / "outside"
    if name == "review":
        outside.mkdir()
    else:
        outside.write_text(
            '{"features": []}' if "geojson" in name else "slide_id,reviewer,status\n"
        )
        results.review.mkdir()
    before = outside.read_text() if outside.is_file() else sorted(outside.iterdir())
    (results.path / name).symlink_to(outside)
    with pytest.raises(StoreError, match="link"):
        reviews.save_regions("a", "ada", [REGION], "")
    if "geojson" not in name:
        with pytest.raises(StoreError, match="link"):
            reviews.save("a", "ada", "accepted", "", "")
    assert (outside.read_text() if outside.is_file() else sorted(outside.iterdir())) == before


def test_regions_that_are_no_polygons_are_refused_and_nothing_changes(reviews, results):
    first = reviews.save_regions("a", "ada", [REGION], "")
    bad = REGION | {"geometry": {"type": "Point", "coordinates": [1, 2]}}
    with pytest.raises(UsageError, match="Point"):
        reviews.save_regions("a", "ada", [REGION, bad], first.version)
    assert reviews.of("a") == first


def test_what_qupath_has_drawn_stays_and_counts(reviews, results):
    results.review.mkdir()
    foreign = {**REGION, "properties": {"objectType": "annotation", "name": "a fold"}}
    results.review_regions("a").write_text(json.dumps([foreign]))
    assert reviews.area_cells("a", summary(results))["excluded_area_mm2"] > 0
    saved = reviews.save_regions("a", "ada", [REGION], reviews.of("a").version)
    assert saved.regions["features"][0] == foreign
    assert len(saved.regions["features"]) == 2


def save_many(path, reviewer):
    book = Reviews(ResultsFolder(path))
    for n in range(8):
        version = book.of("a").version
        version = book.save("a", reviewer, "accepted", f"note {n}", version).version
        book.save_regions(
            "a", reviewer, [*book.of("a").regions["features"][: n % 2], REGION], version
        )


def test_processes_that_save_at_once_lose_nothing(results):
    names = ["ada", "bob", "cy"]
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    processes = [context.Process(target=save_many, args=(results.path, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = Reviews(results).of("a")
    assert {(row.reviewer, row.note) for row in found.reviews} == {(n, "note 7") for n in names}
    drawn = {f["properties"]["metadata"]["reviewer"] for f in found.regions["features"]}
    assert drawn == set(names)


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_a_save_that_is_cut_short_leaves_the_old_review_or_the_new_one(results, kind):
    reviews = Reviews(results)
    old = reviews.save_regions(
        "a", "ada", [REGION], reviews.save("a", "ada", "accepted", "x", "").version
    )
    ended = 0
    for at in range(1, 40):
        version = reviews.of("a").version
        status = "rejected" if at % 2 else "accepted"
        with suppress(StoreError), planted(results.path, Fault(kind, at)) as watch:
            reviews.save("a", "ada", status, "y" * at, version)
        ended += watch.killed or Reviews(results).of("a").version == version
        row = Reviews(results).of("a").reviews[0]
        assert (row.status, row.note) in {
            (status, "y" * at),
            (old.reviews[0].status, old.reviews[0].note),
        }
        old = Reviews(results).of("a")
        assert len(old.regions["features"]) == 1
    assert ended > 2


def test_reviews_of_another_folder_are_added(reviews, results):
    ours = reviews.save("a", "ada", "accepted", "ours", "")
    other = reviews.save_regions(
        "b", "bob", [REGION], reviews.save("b", "bob", "rejected", "", "").version
    )
    reviews.save("b", "ada", "rejected", "theirs", other.version)
    reviews.take([("a", reviews.of("b"))])
    found = reviews.of("a")
    assert [(row.slide_id, row.reviewer, row.status) for row in found.reviews] == [
        ("a", "ada", "accepted"),
        ("a", "bob", "rejected"),
    ]
    assert found.reviews[0] == ours.reviews[0]
    assert len(found.regions["features"]) == 1
    reviews.take([("a", reviews.of("b"))])
    assert reviews.of("a") == found


def test_a_taken_region_that_was_deleted_does_not_come_again(reviews):
    theirs = reviews.save_regions("b", "bob", [REGION], "")
    reviews.take([("a", theirs)])
    reviews.save_regions("a", "bob", [], reviews.of("a").version)
    reviews.take([("a", theirs)])
    assert reviews.of("a").regions["features"] == []
    more = reviews.save_regions("b", "bob", [*theirs.regions["features"], REGION], theirs.version)
    reviews.take([("a", more)])
    assert reviews.of("a").regions["features"] == more.regions["features"][1:]


def test_regions_that_a_kill_kept_out_come_again(reviews, results, monkeypatch):
    theirs = reviews.save_regions("b", "bob", [REGION], "")
    refused = StoreError("killed")

    def die(*args: object) -> None:
        raise refused

    for step in ("_write_regions", "_remember"):
        with monkeypatch.context() as patch, suppress(StoreError):
            patch.setattr(Reviews, step, die)
            reviews.take([("a", theirs)])
    reviews.take([("a", theirs)])
    assert len(reviews.of("a").regions["features"]) == 1


@pytest.mark.parametrize("slide_id", ["../x", "x/y", "", ".hidden", "a\0b"])
def test_a_slide_id_leads_out_of_no_folder(reviews, results, slide_id):
    for save in (
        lambda: reviews.save(slide_id, "ada", "accepted", "", ""),
        lambda: reviews.save_regions(slide_id, "ada", [REGION], ""),
    ):
        with pytest.raises(UsageError, match="can name no slide"):
            save()
    assert not results.review.exists()


@pytest.mark.parametrize(
    ("reviewer", "status", "note"),
    [
        ("", "accepted", ""),
        (" ada", "accepted", ""),
        ("a\nb", "accepted", ""),
        ("x" * 201, "accepted", ""),
        ("ada", "good", ""),
        ("ada", "accepted", "x" * 10_001),
        ("ada", "accepted", "\ud800"),
    ],
)
def test_what_is_no_review_is_refused(reviews, results, reviewer, status, note):
    with pytest.raises(UsageError):
        reviews.save("a", reviewer, status, note, "")
    assert not results.review.exists()


def deep(levels):
    return b'{"features":' + b"[" * levels + b"]" * levels + b"}"


HOSTILE = {
    "huge": lambda path: os.truncate(path, 2**40),
    "deep": lambda path: path.write_bytes(deep(100_000)),
    "a million points": lambda path: path.write_bytes(
        b'{"features":[{"geometry":{"type":"Polygon","coordinates":[['
        + b",".join([b"[0,0]"] * 10**6)
        + b"]]}}]}"
    ),
    "not UTF-8": lambda path: path.write_bytes(b'{"features": ["\xff\xfe"]}'),
    "no number": lambda path: path.write_text(json.dumps([REGION]).replace("40", "NaN")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a large number": lambda path: path.write_text(
        json.dumps([REGION]).replace("40", "9" * 5000, 1)
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_regions_harm_no_other_slide(reviews, results, kind):
    reviews.save_regions("b", "ada", [REGION], "")
    reviews.save("a", "ada", "rejected", "", "")
    path = results.review_regions("a")
    path.touch()
    HOSTILE[kind](path)
    start, tracked = time.perf_counter(), []
    tracemalloc.start()
    standing = Standing(results, LedgerState())
    rows = {row.slide_id: row.review for row in standing.rows()}
    tracked.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert time.perf_counter() - start < 10
    assert max(tracked) < 200e6
    assert [f"{path} " in fault for fault in standing.review_faults] == [True]
    assert len(standing.review_faults[0]) < 1000
    assert rows["a"]["review_status"] == "rejected"
    assert "excluded_area_mm2" not in rows["a"]
    assert rows["b"]["excluded_area_mm2"] > 0


@pytest.mark.parametrize(
    "areas", [None, [], {}, {"excluded_area_mm2": "=1"}, "x", {"excluded_area_mm2": float("nan")}]
)
def test_a_false_cache_of_areas_is_not_used(reviews, results, areas):
    reviews.save_regions("a", "ada", [REGION], "")
    cells, path = reviews.area_cells("a", summary(results)), results.review_areas("a")
    values = json.loads(path.read_text())
    if isinstance(areas, dict) and areas:
        areas = values["areas"] | areas
    path.write_text(json.dumps(values | {"areas": areas}))
    assert reviews.area_cells("a", summary(results)) == cells


def test_areas_are_written_to_no_other_folder(reviews, results, tmp_path):
    reviews.save_regions("a", "ada", [REGION], "")
    (tmp_path / "outside").mkdir()
    results.review_areas("a").parent.symlink_to(tmp_path / "outside")
    assert reviews.area_cells("a", summary(results))["excluded_area_mm2"] > 0
    assert not list((tmp_path / "outside").iterdir())


def test_a_slide_that_is_done_again_keeps_its_review_and_tells_that_it_is_older(reviews, results):
    path = results.slide("a").summary
    old = summary(results)
    drawn = reviews.save_regions("a", "ada", [REGION], "")
    reviews.save("a", "ada", "accepted", "", drawn.version)
    before = Standing(results, LedgerState()).rows()[0].review
    path.write_text(json.dumps(old | {"key": "k2", "tissue_area_mm2": 0.0013}))
    after = Standing(results, LedgerState()).rows()[0].review
    assert (before["reviewed_result"], after["reviewed_result"]) == ("current", "earlier")
    assert "reviewed_result" not in reviews.status_cells([], summary(results))
    assert after["review_status"] == "accepted"
    assert after["reviewed_tissue_area_mm2"] < before["reviewed_tissue_area_mm2"]


def test_a_review_of_another_folder_that_is_not_added_stands_in_the_history(reviews, results):
    reviews.save("a", "ada", "accepted", "ours", "")
    theirs = reviews.save("b", "ada", "rejected", "theirs", "")
    left_out = reviews.take([("a", theirs), ("a", theirs)])
    assert [(row.slide_id, row.status) for row in left_out] == [("a", "rejected")] * 2
    assert reviews.of("a").reviews[0].note == "ours"
    last = json.loads(results.review_history.read_text().splitlines()[-1])
    assert (last["event"], last["slide_id"], last["note"]) == ("taken", "a", "theirs")
    lines = results.review_history.read_text()
    reviews.take([("b", theirs)])
    assert results.review_history.read_text() == lines  # nothing is new


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_regions_that_are_cut_short_are_the_old_ones_or_the_new_ones(results, kind):
    reviews = Reviews(results)
    reviews.save_regions("a", "ada", [REGION], "")
    for at in range(1, 25):
        before = Reviews(results).of("a")
        wanted = [REGION] * (at % 3)
        with without_syncs(), suppress(StoreError), planted(results.path, Fault(kind, at)):
            reviews.save_regions("a", "ada", wanted, before.version)
        found = len(Reviews(results).of("a").regions["features"])
        assert found in {len(before.regions["features"]), len(wanted)}
    assert found == 0
