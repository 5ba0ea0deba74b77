"""Files of an audit."""

import json
import threading
from collections import Counter

import numpy as np
import pytest
from label_results import write_result

from noctile.pipeline.audit.sample import UNREADABLE, UNSURE
from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.layout import ResultsFolder


@pytest.fixture
def audits(tmp_path):
    """Audit of two slides with 30 points."""
    labels = np.full((400, 400), 2, np.uint8)
    labels[:, :150] = 1
    for name in "ab":
        write_result(tmp_path, labels, name)
    return open_audit(tmp_path, AuditRequest(points=30))


def ids(audits):
    return [point.point_id for point in audits.points()]


def test_answers_of_readers_do_not_mix_and_the_history_has_all(audits, tmp_path):
    first, second = ids(audits)[:2]
    audits.save("ada", {first: "tumor", second: "unsure"})
    audits.save("ben", {first: "stroma"})
    audits.save("ada", {first: "unreadable"})
    rows = {(row.point_id, row.reader): row.answer for row in audits.answers()}
    assert rows == {
        (first, "ada"): "unreadable",
        (first, "ben"): "stroma",
        (second, "ada"): "unsure",
    }
    assert Counter(row.reader for row in audits.answers()) == {"ada": 2, "ben": 1}
    history = (tmp_path / "audit" / "history.jsonl").read_text().splitlines()
    told = [(e["reader"], e["answer"]) for e in map(json.loads, history)]
    assert told == [("ada", "tumor"), ("ada", "unsure"), ("ben", "stroma"), ("ada", "unreadable")]


def test_readers_at_work_at_once_lose_nothing(audits):
    def work(reader):
        for point in ids(audits)[:8]:
            Audits(ResultsFolder(audits._results.path)).save(reader, {point: "tumor"})

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ada", "ben", "cy")]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert Counter(row.reader for row in audits.answers()) == {"ada": 8, "ben": 8, "cy": 8}


def test_answers_to_points_that_another_process_adds_meanwhile_are_no_damage(audits, tmp_path):
    """A viewer has read the points; others are added and answered before it reads the answers."""

    class Late(Audits):
        def points(self):
            found = super().points()
            if hook := hooks.pop() if hooks else None:
                hook()
            return found

    def extend_and_answer():
        more = open_audit(tmp_path, AuditRequest(points=60))
        more.save("ben", {more.points()[-1].point_id: "tumor"})

    hooks = [extend_and_answer]
    viewer = Late(ResultsFolder(tmp_path))
    viewer.save("ada", {"p01": "stroma"})
    assert not hooks
    assert {row.reader: row.point_id for row in viewer.answers()} == {"ada": "p01", "ben": "p60"}


def test_a_sample_has_the_answered_points_and_their_weights_are_the_whole_area(audits):
    points = audits.points()
    given = {p.point_id: p.stratum for p in points[:20]}
    given[points[0].point_id], given[points[1].point_id] = "unsure", "unreadable"
    audits.save("ada", given)
    frame, sample, slides, patients, groups, classes, stale = audits.sample("ada")
    assert (slides, patients, groups, classes) == (
        ["a", "b"],
        ["a", "b"],
        [""],
        ["tumor", "stroma"],
    )
    assert stale == []
    assert frame.area_mm2.sum() == pytest.approx(2 * 0.04)
    assert len(sample.answers) == 20
    assert sample.answers[:2].tolist() == [UNSURE, UNREADABLE]
    for k, point in enumerate(points[:20]):
        assert slides[sample.slides[k]] == point.slide_id
        assert classes[sample.strata[k]] == point.stratum
        assert k < 2 or sample.answers[k] == sample.strata[k]
    for stratum in (0, 1):  # one group: all points of a stratum stand for the same area
        weights = sample.weights_mm2[sample.strata == stratum]
        assert weights.sum() == pytest.approx(frame.area_mm2[:, stratum].sum())
        assert np.ptp(weights) == pytest.approx(0)


def test_most_readers_decide_unless_one_is_named(audits):
    one, two = ids(audits)[:2]
    for reader, answer in {"ada": "tumor", "ben": "stroma", "cy": "stroma"}.items():
        audits.save(reader, {one: answer})
    audits.save("ada", {two: "tumor"})
    audits.save("ben", {two: "stroma"})
    assert audits.sample().sample.answers.tolist() == [1, UNSURE]
    assert audits.sample("ada").sample.answers.tolist() == [0, 0]
    with pytest.raises(
        UsageError, match="dan has answered no point; the readers are: ada, ben, cy"
    ):
        audits.sample("dan")


def test_points_of_a_slide_that_was_done_again_are_named_and_not_used(audits, tmp_path):
    audits.save("ada", dict.fromkeys(ids(audits), "tumor"))
    path = tmp_path / "slides" / "a" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "other"}))
    assert audits.stale() == audits.sample().stale == ["a"]
    sample = audits.sample().sample
    assert set(sample.slides.tolist()) == {1}
    assert len(sample.answers) == sum(p.slide_id == "b" for p in audits.points())
    path.unlink()
    assert audits.stale() == audits.stale(pointless=True) == ["a"]


@pytest.mark.parametrize(
    ("reader", "answers"),
    [
        ("", {"p01": "tumor"}),
        (" ada", {"p01": "tumor"}),
        ("a\nb", {"p01": "tumor"}),
        ("ada", {"p99": "tumor"}),
        ("ada", {"p01": "necrosis"}),
        ("ada", {"p01": ""}),
        ("ada", {"p01": "tumor", "p02": "x"}),
    ],
)
def test_wrong_answers_are_refused_as_a_whole(audits, tmp_path, reader, answers):
    with pytest.raises(UsageError):
        audits.save(reader, answers)
    assert audits.answers() == []
    assert not (tmp_path / "audit" / "history.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("design.json", lambda text: text[:-9]),
        ("design.json", lambda text: text.replace('"seed"', '"sed"')),
        ("points.csv", lambda text: text.replace("weight", "eight")),
        ("points.csv", lambda text: "\n".join(text.splitlines()[:-1]) + "\n"),
        ("points.csv", lambda text: text.replace(",a,", ",zz,", 1)),
        ("answers.csv", lambda text: text.replace("tumor", "cancer")),
        ("answers.csv", lambda text: text + "p99,ada,tumor,t\n"),
        ("answers.csv", lambda text: text + "\0"),
    ],
)
def test_a_damaged_file_is_named_and_never_replaced(audits, tmp_path, name, change):
    one = ids(audits)[0]
    audits.save("ada", {one: "tumor"})
    path = tmp_path / "audit" / name
    path.write_text(damaged := change(path.read_text()))
    for act in (lambda: audits.save("ada", {one: "stroma"}), audits.answers, audits.sample):
        with pytest.raises(
            StoreError, match=rf"{name} cannot be read: .*; mend it, or move it away"
        ):
            act()
    assert path.read_text() == damaged


def test_answers_without_a_design_are_never_drawn_over(audits, tmp_path):
    audits.save("ada", {ids(audits)[0]: "tumor"})
    (tmp_path / "audit" / "design.json").unlink()
    with pytest.raises(StoreError, match=r"design\.json is missing, and answers\.csv is there"):
        open_audit(tmp_path, AuditRequest(points=30))


def test_points_that_are_missing_are_copied_back(audits, tmp_path):
    (tmp_path / "audit" / "points.csv").unlink()
    with pytest.raises(StoreError, match=r"points\.csv is missing; copy it back, or move"):
        open_audit(tmp_path, AuditRequest())


def test_no_audit_is_no_damage(tmp_path):
    audits = Audits(ResultsFolder(tmp_path))
    assert not audits.exists()
    with pytest.raises(StoreError, match="has no audit; `noctile audit"):
        audits.points()


@pytest.mark.parametrize("name", ["audit", "audit/answers.csv", "audit/history.jsonl"])
def test_a_link_is_not_followed(audits, tmp_path, name):
    path, outside = tmp_path / name, tmp_path / "outside"
    one = ids(audits)[0]
    if path.is_dir():
        path.rename(outside)
    else:
        outside.write_text("mine")
    path.symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        audits.save("ada", {one: "tumor"})
