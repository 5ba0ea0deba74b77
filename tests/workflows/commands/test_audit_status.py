"""State of an audit: answers, agreement, areas and further points."""

import json
import math

import numpy as np
import pytest
from label_results import write_result

from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.audit_status import audit_areas, audit_progress, few_slides


@pytest.fixture
def results(tmp_path):
    """Results of three slides: tumor at the left, stroma at the right."""
    for k, name in enumerate("abc"):
        labels = np.full((400, 500), 2, np.uint8)
        labels[:, : 150 + 40 * k] = 1
        write_result(tmp_path, labels, name)
    return tmp_path


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


def test_all_slides_are_never_too_few(results):
    assert few_slides(open_audit(results, AuditRequest(points=20)).design()) is None


def test_areas_and_further_points_of_all_slides(results):
    """Every second tumor point is stroma: half of the tumor area, and the wanted width decides."""
    audits = open_audit(results, AuditRequest(points=60))
    assert audit_areas(audits) == []
    tumor = [p.point_id for p in audits.points() if p.stratum == "tumor"]
    answers = {p.point_id: p.stratum for p in audits.points()}
    answers |= dict.fromkeys(tumor[::2], "stroma")
    answers[tumor[1]] = "unsure"
    audits.save("ada", answers)
    found = {row.found.name: row for row in audit_areas(audits)}
    row = found["tumor"]
    area, predicted = row.found.area.area_mm2, row.found.area.predicted_mm2
    p = (len(tumor) // 2 - 1) / (len(tumor) - 1)
    assert area.value == pytest.approx(predicted * p)
    assert row.half_width == pytest.approx((area.high - area.low) / area.value / 4)
    assert (row.further, row.total) == (3 * 59, 4 * 60)
    narrow = {r.found.name: r for r in audit_areas(audits, 0.05)}["tumor"]
    now = (area.high - area.low) / 2 / area.value
    assert narrow.further == math.ceil(59 * ((now / 0.05) ** 2 - 1))
    assert audit_areas(audits, 5.0)[0].further == 0


def test_slides_that_are_stale_have_no_part_in_the_areas(results):
    audits = open_audit(results, AuditRequest(points=60))
    audits.save("ada", {point.point_id: point.stratum for point in audits.points()})
    path = results / "slides" / "b" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "new"}))
    area = audit_areas(audits)[0].found
    slides = [slide for slide in audits.design().slides if slide.slide_id != "b"]
    assert area.areas.slides == 2
    assert area.area.predicted_mm2 == pytest.approx(sum(s.area_mm2["tumor"] for s in slides))


def test_no_number_of_points_is_told_that_cannot_be_drawn(results):
    """With a stale slide none can be added; an audit has 20,000 at most."""
    audits = open_audit(results, AuditRequest(points=60))
    half = audits.points()[:40]
    audits.save("ada", {point.point_id: point.stratum for point in half})
    assert audit_areas(audits, 0.001)[0].further > 20_000
    assert audit_areas(audits, 0.001)[0].total is None
    assert audit_areas(audits)[0].total == 160
    path = results / "slides" / "b" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "new"}))
    row = audit_areas(audits)[0]
    kept = [point for point in audits.points() if point.slide_id != "b"]
    assert row.further > len(kept)
    assert row.total is None
    reached = audit_areas(audits, 0.99 * row.found.half_width)[0]
    assert reached.further < len(kept) - reached.found.areas.points
    assert reached.total == reached.found.areas.points + reached.further
