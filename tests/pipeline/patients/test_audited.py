"""Areas corrected by an audit: cut to a question, grouped by it, against a planted error."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cohort_results import joined_cohort, slide_row

from noctile.pipeline.audit.estimators import corrected_areas
from noctile.pipeline.audit.sample import AuditFrame, AuditSample
from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.audited import Audit, audited
from noctile.pipeline.patients.conclusions import conclude
from noctile.pipeline.patients.question import make_question
from noctile.pipeline.patients.tables import cohort_tables
from noctile.pipeline.statistics.estimate import Estimate

N, POINTS = 40, 40
TRUE = {"a": 0.2, "b": 0.4}
"""True share of tumor of each group. The model predicts 0.3 everywhere."""


def cohort(**about):
    rows = [slide_row(f"s{k:02}", 3.0, 10.0, patient=f"p{k:02}") for k in range(N)]
    clinical = [{"patient_id": f"p{k:02}", "g": "ab"[k % 2]} for k in range(about.get("n", N))]
    joined = joined_cohort(rows, clinical)
    return joined, analyse(joined, make_question(joined, "g", None, None))


def audit_of(slides: list[str]) -> Audit:
    """Points on slides in the order of their names, backwards; half of the tumor of b is missed."""
    random = np.random.default_rng(0)
    n = len(slides)
    numbers = np.repeat(np.arange(n), POINTS)
    strata = np.tile(np.repeat([0, 1], POINTS // 2), n)
    group_b = np.array([int(name[1:]) % 2 for name in slides])[numbers] == 1
    # the share of true tumor in predicted tumor, and in the rest, gives TRUE
    tumor = np.where(
        group_b, np.where(strata == 0, 0.9, 0.13 / 0.7), np.where(strata == 0, 0.6, 0.02 / 0.7)
    )
    answers = np.where(random.random(len(tumor)) < tumor, 0, 1)
    area = np.tile([[3.0, 7.0]], (n, 1))
    weights = area[numbers, strata] / (POINTS // 2)
    zeros = np.zeros(n, np.int64)
    frame = AuditFrame(np.arange(n), zeros, area, np.ones(n))
    return Audit(frame, AuditSample(numbers, strata, answers, weights), slides, ["tumor", "stroma"])


@pytest.fixture(scope="module")
def made():
    joined, analysis = cohort()
    names = sorted((f"s{k:02}" for k in range(N)), reverse=True)
    return joined, analysis, audited(analysis, audit_of(names))


def test_corrected_areas_cover_the_truth_where_the_model_is_off(made):
    found = {(row.group, row.name): row for row in made[2].areas}
    for group, share in TRUE.items():
        row = found[group, "tumor"]
        assert row.area.predicted_mm2 == pytest.approx(60)
        assert row.area.share.low < share < row.area.share.high
        assert not row.area.share.low < 0.3 < row.area.share.high
        assert (row.areas.slides, row.areas.patients) == (20, 20)
    assert found[None, "tumor"].areas.points == N * POINTS
    assert found[None, "tumor"].area.share.value == pytest.approx(0.3, abs=0.03)


def test_a_group_alone_is_the_estimator_of_its_slides(made):
    names = sorted((f"s{k:02}" for k in range(N)), reverse=True)
    audit = audit_of(names)
    rows = np.array([k for k, name in enumerate(names) if int(name[1:]) % 2 == 0])
    points = np.isin(audit.sample.slides, rows)
    place = np.searchsorted(rows, audit.sample.slides[points])
    frame = AuditFrame(np.arange(20), np.zeros(20, int), audit.frame.area_mm2[rows], np.ones(20))
    own = AuditSample(
        place, *(getattr(audit.sample, n)[points] for n in ("strata", "answers", "weights_mm2"))
    )
    expected = corrected_areas(frame, own).classes[0].area_mm2
    (found,) = [r for r in made[2].areas if (r.group, r.name) == ("a", "tumor")]
    assert found.area.area_mm2.value == pytest.approx(expected.value)
    assert found.area.area_mm2.low == pytest.approx(expected.low)


def test_groups_differ_on_corrected_areas_though_the_model_sees_no_difference(made):
    _, analysis, audit = made
    assert not any(finding.differs for finding in analysis.findings)
    (tumor,) = [d for d in audit.differences if d.name == "tumor"]
    assert tumor.found.difference.value == pytest.approx(-0.2, abs=0.05)
    assert tumor.p_holm < 0.001
    answers = conclude(analysis, audit).answers
    assert any("share of tumor is smaller in a than in b" in answer for answer in answers)


@pytest.mark.parametrize("wanted", [0.1, 0.02])
def test_squared_half_widths_fall_as_the_number_of_points(made, wanted):
    for row in made[2].areas:
        area, points = row.area.area_mm2, row.areas.points
        now = (area.high - area.low) / 2 / area.value
        assert row.half_width == pytest.approx(now)
        further = max(0, math.ceil(points * ((now / wanted) ** 2 - 1)))
        assert row.further_points(wanted) == further
        assert (further > 0) == (wanted == 0.02)
    assert made[2].areas[0].further_points() == made[2].areas[0].further_points(0.1)
    none = replace(
        made[2].areas[0], area=replace(made[2].areas[0].area, area_mm2=Estimate(0, 0, 1))
    )
    assert none.further_points() is None
    assert math.isnan(none.half_width)


def test_tables_hold_them(made):
    joined, analysis, audit = made
    tables = cohort_tables(joined, analysis, audit)
    assert tables["audit"].num_rows == 6
    rows = tables["audit"].to_pylist()
    assert [r["further_points"] for r in rows] == [a.further_points() for a in audit.areas]
    row = tables["audit_tests"].to_pylist()[0]
    assert row["difference"] == pytest.approx(row["share_a"] - row["share_b"])
    assert "audit" not in cohort_tables(joined, analysis)


def test_slides_made_anew_since_the_points_were_drawn_are_named_and_left_out():
    _, analysis = cohort()
    audit = replace(audit_of([f"s{k:02}" for k in range(N)]), stale=["s03", "s04"])
    found = audited(analysis, audit)
    assert found.missing == ("s03", "s04")
    assert found.points == (N - 2) * POINTS
    assert {row.areas.slides for row in found.areas if row.group is None} == {N - 2}


def test_slides_outside_the_audit_or_the_question_are_named_or_left_out():
    _, analysis = cohort(n=30)
    found = audited(analysis, audit_of([f"s{k:02}" for k in range(5, N)]))
    assert found.missing == tuple(f"s{k:02}" for k in range(5))
    assert found.points == 25 * POINTS
    assert {row.areas.slides for row in found.areas} == {12, 13, 25}


def test_few_points_correct_nothing():
    _, analysis = cohort()
    audit = audit_of([f"s{k:02}" for k in range(N)])
    none = np.full(len(audit.sample.answers), -1)
    found = audited(analysis, replace(audit, sample=replace(audit.sample, answers=none)))
    assert (found.areas, found.points) == ((), 0)
    assert "0 points" in found.problem
