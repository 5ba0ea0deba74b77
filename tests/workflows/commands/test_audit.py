"""Drawing of an audit's points from finished slides."""

import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from disk_faults import Fault, planted, without_syncs
from label_results import write_result

from noctile.pipeline.audit.draw import SPACING_UM
from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.audit_status import audit_areas, audit_progress, few_slides
from noctile.workflows.commands.opened import open_results
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.events import Submitted, to_line
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews


def labels_of(seed: int) -> np.ndarray:
    """Tumor at the left, stroma at the right, and a rim that was not analysed."""
    labels = np.full((400, 500), 2, np.uint8)
    labels[:, : 150 + 40 * seed] = 1
    labels[:20], labels[-20:] = 0, 0
    return labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of three slides; the last one has bounds."""
    out = tmp_path_factory.mktemp("audited") / "results"
    for k, name in enumerate("abc"):
        write_result(out, labels_of(k), name, bounds=(30, 70) if name == "c" else (0, 0))
    return out


@pytest.fixture
def results(made, tmp_path):
    return shutil.copytree(made, tmp_path / "results")


def test_points_lie_in_their_class_apart_and_stand_for_the_whole_area(results):
    audits = open_audit(results, AuditRequest(points=60))
    points, design = audits.points(), audits.design()
    opened = open_results(results)
    assert len(points) == 60 == len({p.point_id for p in points})
    for p in points:
        slide = opened[p.slide_id]
        y, x = slide.from_level0(p.y_px, p.x_px)
        code = np.asarray(slide.mask()[int(y), int(x)])
        assert slide.classes[int(code)].name == p.stratum
        assert (y % 1, x % 1) == pytest.approx((0.5, 0.5), abs=1e-3)
        assert (p.y_um, p.x_um) == pytest.approx((y * 0.5, x * 0.5), abs=1e-3)
    for name in "abc":
        at = np.array([(p.y_um, p.x_um) for p in points if p.slide_id == name])
        apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
        assert apart[~np.eye(len(at), dtype=bool)].min() >= SPACING_UM
    for stratum in ("tumor", "stroma"):
        area = sum(slide.area_mm2[stratum] for slide in design.slides)
        assert area == pytest.approx(sum(opened[n].area_mm2[stratum] for n in "abc"))
        weights = [p.weight_mm2 for p in points if p.stratum == stratum]
        assert sum(weights) == pytest.approx(area)


def test_the_names_of_points_tell_nothing_of_their_class(results):
    """By the rank of the tumor points among the names, as in a rank-sum test."""
    points = open_audit(results, AuditRequest(points=60)).points()
    ranks = [k for k, p in enumerate(points) if p.stratum == "tumor"]
    n, m = len(ranks), len(points) - len(ranks)
    spread = (n * m * (len(points) + 1) / 12) ** 0.5
    assert abs(sum(ranks) - n * (len(points) - 1) / 2) < 2.5 * spread
    assert len({p.slide_id for p in points[:8]}) > 1


def test_a_drawn_audit_is_continued_and_nothing_but_points_can_be_changed(results):
    first = open_audit(results, AuditRequest(points=30, seed=4)).points()
    for same in (AuditRequest(), AuditRequest(points=30, by="", seed=4)):
        assert open_audit(results, same).points() == first
    for other in ({"points": 29}, {"by": "group"}, {"seed": 0}, {"slides": 2}):
        with pytest.raises(UsageError, match=r"drawn with --points 30 --seed 4\. Points can"):
            open_audit(results, AuditRequest(**other))
    assert Audits(ResultsFolder(results)).points() == first


def test_a_seed_repeats_and_another_one_differs(results, made, tmp_path):
    def drawn(name, seed):
        return open_audit(
            shutil.copytree(made, tmp_path / name), AuditRequest(points=30, seed=seed)
        ).points()

    assert drawn("one", 4) == drawn("two", 4) != drawn("three", 5)


def test_rejected_slides_and_those_without_tissue_are_counted(results):
    write_result(results, np.zeros((300, 300), np.uint8), "empty")
    reviews = Reviews(ResultsFolder(results))
    reviews.save("a", "ada", "rejected", "", "")
    reviews.save("a", "ben", "accepted", "", reviews.of("a").version)
    reviews.save("b", "ada", "look_again", "", "")
    progress = audit_progress(open_audit(results, AuditRequest(points=20)))
    assert progress.left_out == {"rejected by a reviewer": 1, "without tissue": 1}
    assert (progress.points, progress.slides, progress.frame) == (20, 2, 2)
    assert (progress.readers, progress.stale) == ({}, [])


def test_groups_come_from_a_column_of_the_manifest(results):
    cells = {"a": ("p1", "x"), "b": ("p1", "x"), "c": ("p2", "y")}
    time = "2026-11-29T06:00:00+00:00"
    lines = "".join(
        to_line(Submitted(time, name, f"/scans/{name}.tif", 1, 1, {"patient_id": p, "arm": arm}))
        for name, (p, arm) in cells.items()
    )
    (results / "ledger.jsonl").write_text(lines)
    with pytest.raises(UsageError, match=r"--by arms is no column .*'?arm'?"):
        open_audit(results, AuditRequest(points=20, by="arms"))
    audits = open_audit(results, AuditRequest(points=40, by="arm"))
    assert [(s.patient, s.group) for s in audits.design().slides] == list(cells.values())
    assert set(Counter((p.group, p.stratum) for p in audits.points())) == {
        (group, name) for group in "xy" for name in ("tumor", "stroma")
    }


def test_what_cannot_be_drawn_is_refused(results, tmp_path):
    with pytest.raises(UsageError, match="too few"):
        open_audit(results, AuditRequest(points=2))
    with pytest.raises(UsageError, match="at most"):
        open_audit(results, AuditRequest(points=10**6))
    assert not (results / "audit" / "design.json").exists()
    (tmp_path / "none" / "slides").mkdir(parents=True)
    with pytest.raises(UsageError, match="no slide that is done"):
        open_audit(tmp_path / "none", AuditRequest())


def test_slides_too_small_for_points_leave_no_audit(tmp_path):
    write_result(tmp_path, np.ones((60, 60), np.uint8))  # 900 um2
    with pytest.raises(UsageError, match=r"no predicted class .* 0\.002 mm²"):
        open_audit(tmp_path, AuditRequest(points=20))
    assert not Audits(ResultsFolder(tmp_path)).exists()
    assert not (tmp_path / "audit" / "points.csv").exists()


def test_classes_that_differ_are_refused(results):
    path = results / "slides" / "b" / "summary.json"
    summary = json.loads(path.read_text())
    summary["class_area_mm2"] = {"cancer": 0.1, "stroma": 0.1}
    path.write_text(json.dumps(summary))
    with pytest.raises(UsageError, match="a and b have different classes"):
        open_audit(results, AuditRequest())


def test_a_damaged_result_is_named(results):
    path = results / "slides" / "b" / "blocks.json"
    path.write_text("{}")
    with pytest.raises(StoreError, match="the result of b cannot be used"):
        open_audit(results, AuditRequest(points=20))
    assert not Audits(ResultsFolder(results)).exists()


def area_by_stratum(points):
    areas = Counter()
    for point in points:
        areas[point.stratum] += point.weight_mm2
    return areas


def test_further_points_come_to_those_that_are_there(results):
    audits = open_audit(results, AuditRequest(points=30, seed=4))
    first = audits.points()
    audits.save("ada", {point.point_id: point.stratum for point in first})
    points = open_audit(results, AuditRequest(points=60)).points()
    assert [replace(p, weight_mm2=0) for p in points[:30]] == [
        replace(p, weight_mm2=0) for p in first
    ]
    assert [(p.point_id, p.batch) for p in points[30:]] == [(f"p{k}", 60) for k in range(31, 61)]
    assert len(audits.answers()) == 30
    for name in "abc":
        at = np.array([(p.y_um, p.x_um) for p in points if p.slide_id == name])
        apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
        assert apart[~np.eye(len(at), dtype=bool)].min() >= SPACING_UM
    assert area_by_stratum(points) == pytest.approx(area_by_stratum(first))
    for stratum in ("tumor", "stroma"):
        assert len({p.weight_mm2 for p in points if p.stratum == stratum}) == 1
    slide = open_results(results)["c"]
    for p in (p for p in points[30:] if p.slide_id == "c"):
        y, x = slide.from_level0(p.y_px, p.x_px)
        assert slide.classes[int(slide.mask()[int(y), int(x)])].name == p.stratum


def test_further_points_repeat_with_the_seed_and_continue(results, made, tmp_path):
    both = results, shutil.copytree(made, tmp_path / "other")
    for path in both:
        open_audit(path, AuditRequest(points=30))
    one, two = (open_audit(path, AuditRequest(points=50)).points() for path in both)
    assert one == two
    assert open_audit(results, AuditRequest()).points() == one
    with pytest.raises(UsageError, match="drawn with --points 50"):
        open_audit(results, AuditRequest(points=30))
    third = open_audit(results, AuditRequest(points=70)).points()
    assert Counter(p.batch for p in third) == {30: 30, 50: 20, 70: 20}
    assert [p.point_id for p in third[:50]] == [p.point_id for p in one]


def test_the_names_of_further_points_tell_nothing_of_their_class(results):
    open_audit(results, AuditRequest(points=30))
    points = open_audit(results, AuditRequest(points=90)).points()[30:]
    ranks = [k for k, p in enumerate(points) if p.stratum == "tumor"]
    n, m = len(ranks), len(points) - len(ranks)
    spread = (n * m * (len(points) + 1) / 12) ** 0.5
    assert abs(sum(ranks) - n * (len(points) - 1) / 2) < 2.5 * spread


def test_nothing_is_added_once_a_slide_is_another_one(results):
    audits = open_audit(results, AuditRequest(points=30))
    before = audits.points()
    path = results / "slides" / "b" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "new"}))
    shutil.rmtree(results / "slides" / "c")
    with pytest.raises(UsageError, match=r"no points can be added, because .*: b, c; move"):
        open_audit(results, AuditRequest(points=60))
    assert audits.points() == before


def test_slides_done_since_are_not_in_the_frame(results):
    open_audit(results, AuditRequest(points=30))
    write_result(results, labels_of(1), "d")
    points = open_audit(results, AuditRequest(points=60)).points()
    assert (len(points), {p.slide_id for p in points}) == (60, set("abc"))


def test_slides_without_room_for_further_points_are_told(tmp_path):
    write_result(tmp_path, np.ones((100, 100), np.uint8))  # 50 um
    points = open_audit(tmp_path, AuditRequest(points=20)).points()
    assert len(points) == 2
    with pytest.raises(UsageError, match=f"no room for more than the {len(points)} points"):
        open_audit(tmp_path, AuditRequest(points=40))
    assert open_audit(tmp_path, AuditRequest()).points() == points


def test_a_kill_leaves_the_old_audit_or_the_new_one(made, tmp_path):
    first, ends = shutil.copytree(made, tmp_path / "first"), set()
    open_audit(first, AuditRequest(points=20)).save("ada", {"p01": "tumor"})
    with without_syncs():
        for at in range(1, 20):
            path = shutil.copytree(first, tmp_path / f"r{at}")
            with planted(path, Fault("kill", at, torn=True)) as watch:
                open_audit(path, AuditRequest(points=30))
            left = Audits(ResultsFolder(path))
            ends.add(len(left.points()))
            assert [(row.point_id, row.answer) for row in left.answers()] == [("p01", "tumor")]
            assert len(open_audit(path, AuditRequest(points=30)).points()) == 30
            if not watch.killed:
                break
    assert ends == {20, 30}
    assert not watch.killed


def test_two_processes_that_add_points_at_once_add_them_once(results):
    open_audit(results, AuditRequest(points=30))
    asked = (60, 60, 80, 60)
    with ThreadPoolExecutor(len(asked)) as pool:
        made = [pool.submit(open_audit, results, AuditRequest(points=n)) for n in asked]
    assert {str(m.exception())[:9] for m in made if m.exception()} <= {"the audit"}
    batches = Counter(p.batch for p in Audits(ResultsFolder(results)).points())
    assert batches in ({30: 30, 60: 30, 80: 20}, {30: 30, 80: 50})


def test_a_part_of_the_slides_is_chosen_and_speaks_for_all(tmp_path):
    for k in range(8):
        write_result(tmp_path, labels_of(k % 4), f"s{k}")
    audits = open_audit(tmp_path, AuditRequest(points=40, slides=3))
    design = audits.design()
    chosen = {slide.slide_id for slide in design.slides if slide.chosen}
    assert (len(chosen), len(design.slides), design.n_slides) == (3, 8, 3)
    assert sum(slide.probability for slide in design.slides) == pytest.approx(3)
    assert {p.slide_id for p in audits.points()} == chosen
    for stratum in ("tumor", "stroma"):
        area = sum(slide.area_mm2[stratum] for slide in design.slides)
        assert area_by_stratum(audits.points())[stratum] == pytest.approx(area)
    again = open_audit(tmp_path, AuditRequest(points=60, slides=3))
    assert len(again.points()) == 60
    assert {p.slide_id for p in again.points()} == chosen
    with pytest.raises(UsageError, match="--points 60 --slides 3 --seed 0"):
        open_audit(tmp_path, AuditRequest(slides=4))
    assert few_slides(again.design()) == 3
    again.save("ada", {point.point_id: point.stratum for point in again.points()})
    tumor = audit_areas(again)[0]
    assert tumor.found.areas.slides == 8
    assert tumor.found.area.area_mm2.value == pytest.approx(
        sum(slide.area_mm2["tumor"] for slide in design.slides)
    )
