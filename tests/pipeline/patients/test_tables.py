"""Tidy tables of a cohort: one row for each patient, group, test, influence and exclusion."""

import math

import pyarrow as pa
import pytest
from cohort_results import failed_row, joined_cohort, planted_clinical, planted_rows

from noctile.pipeline.columns import describe_columns
from noctile.pipeline.patients.analysis import analyse
from noctile.pipeline.patients.question import Cut, make_question
from noctile.pipeline.patients.tables import cohort_tables


@pytest.fixture(scope="module")
def made():
    joined = joined_cohort(
        [*planted_rows(40), failed_row("f"), failed_row("g", patient="p0001")],
        planted_clinical(39),
    )
    cut = [Cut("tumor_fraction_of_tissue", 0.4)]
    analysis = analyse(joined, make_question(joined, "subtype", "os_months", "os_event", cut))
    return analysis, cohort_tables(joined, analysis)


def test_every_patient_has_a_row(made):
    _, tables = made
    rows = {row["patient_id"]: row for row in tables["patients"].to_pylist()}
    assert len(rows) == 41
    assert rows["f"]["excluded"] == "no_analysed_slide"
    assert rows["f"]["tumor_area_mm2"] is None
    assert rows["f"]["patient_named"] is False
    assert rows["p0039"]["excluded"] == "no_clinical_row"
    assert rows["p0039"]["tumor_area_mm2"] > 0
    one = rows["p0001"]
    assert (one["excluded"], one["by"]) == (None, "b")
    assert one["slides_submitted"] == one["slides"] + 1 == len(one["slide_ids"]) + 1
    assert one["event"] in (0, 1)


def test_the_tables_hold_the_analysis(made):
    analysis, tables = made
    first = tables["tests"].to_pylist()[0]
    finding = analysis.findings[0]
    assert first["p_holm"] == finding.p_holm
    assert first["value"] == finding.effects[0].estimate.value
    assert (first["a"], first["b"], first["events"]) == ("a", "b", None)
    influence = tables["influence"].to_pylist()
    families = set(tables["tests"]["family"].to_pylist())
    assert families == {"by", "quality", "survival", "survival_by", "survival_cut"}
    survival = [r for r in tables["tests"].to_pylist() if r["family"] == "survival_cut"]
    assert [row["subset"] for row in survival] == ["all", "without_flagged"]
    assert survival[1]["p"] == analysis.survival_without_flagged[-1].p
    tested = {(i.test.family, i.test.measure, i.test.by) for i in analysis.influences}
    named = {tuple(row[c] or "" for c in ("family", "measure", "by")) for row in influence}
    assert named == tested
    assert {family for family, *_ in named} == {"by", "survival", "survival_by", "survival_cut"}
    medians = tables["survival"].to_pylist()
    assert [(r["by"], r["group"], r["n"]) for r in medians] == [
        (g.by or None, g.name if g.by else None, g.n) for g in analysis.survival.groups
    ]
    assert medians[0]["median"] == analysis.survival.overall.median.value
    assert len(tables["groups"]) == len(analysis.descriptions)
    assert len(tables["influence"]) == len(analysis.influences)
    assert len(tables["exclusions"]) == len(analysis.exclusions) == 2 + 2


def test_no_number_is_nan_and_every_column_is_described(made):
    for name, table in made[1].items():
        for column in table.columns:
            if pa.types.is_floating(column.type):
                assert not any(math.isnan(v) for v in column.drop_null().to_pylist()), name
        for column in describe_columns(table)["columns"]:
            assert column["description"]
