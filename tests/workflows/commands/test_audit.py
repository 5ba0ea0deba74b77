"""Drawing of an audit's points from finished slides."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from label_results import write_result

from noctile.pipeline.audit.draw import SPACING_UM
from noctile.pipeline.errors import StoreError, UsageError
from noctile.workflows.commands.audit import AuditRequest, audit_progress, open_audit
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


def test_a_drawn_audit_is_continued_and_never_replaced(results):
    first = open_audit(results, AuditRequest(points=30, seed=4)).points()
    for same in (AuditRequest(), AuditRequest(points=30, by="", seed=4)):
        assert open_audit(results, same).points() == first
    for other in (AuditRequest(points=31), AuditRequest(by="group"), AuditRequest(seed=0)):
        with pytest.raises(UsageError, match="drawn with --points 30 --seed 4, and a drawn audit"):
            open_audit(results, other)
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


def test_readers_agree_as_far_as_they_answered_the_same_points(results):
    audits = open_audit(results, AuditRequest(points=40))
    ids = [point.point_id for point in audits.points()]
    answers = {"ada": "tttssstu", "ben": "ttssssst", "cy": "        t"}
    words = {"t": "tumor", "s": "stroma", "u": "unsure"}
    for reader, keys in answers.items():
        given = {i: words[key] for i, key in zip(ids, keys, strict=False) if key != " "}
        audits.save(reader, given)
    progress = audit_progress(audits)
    assert progress.readers == {"ada": 8, "ben": 8, "cy": 1}
    assert set(progress.agreement) == {("ada", "ben")}
    kappa = progress.agreement["ada", "ben"]
    assert (kappa.points, kappa.agreement) == (7, pytest.approx(5 / 7))
    expected = (4 * 2 + 3 * 5) / 49
    assert kappa.kappa.value == pytest.approx((5 / 7 - expected) / (1 - expected))
