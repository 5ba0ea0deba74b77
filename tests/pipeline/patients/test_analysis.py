"""Analysis of a planted cohort, recomputed from its tables with pandas, scipy and pingouin."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pingouin
import pytest
from cohort_results import joined_cohort, planted_clinical, planted_rows
from scipy import stats

from noctile.pipeline.cohort import cohort_table
from noctile.pipeline.patients.analysis import Analysis, _findings, _test, analyse
from noctile.pipeline.patients.question import Question, make_question
from noctile.pipeline.patients.values import patient_values

MEASURES = (
    "tumor_area_mm2",
    "tumor_fraction_of_tissue",
    "tumor_foci",
    "largest_focus_mm2",
    "tumor_fraction_range",
)


def asked(by: str, **about) -> Analysis:
    joined = joined_cohort(planted_rows(), planted_clinical())
    return analyse(joined, make_question(joined, by, None, None, **about))


@pytest.fixture(scope="module")
def groups() -> Analysis:
    return asked("subtype")


def patients(*, flagged: bool = True) -> pd.DataFrame:
    """The same values by pandas alone, from the rows of the slides and of the patients."""
    slides = cohort_table(planted_rows(), ("tumor",)).to_pandas()
    slides["patient_id"] = slides["patient_id"].astype(str)
    if not flagged:
        slides = slides[slides["qc_flags"].map(len) == 0]
    slides["share"] = slides["tumor_area_mm2"] / slides["tissue_area_mm2"]
    by = slides.groupby("patient_id")
    frame = by[["tumor_area_mm2", "tissue_area_mm2", "tumor_foci"]].sum()
    frame["tumor_fraction_of_tissue"] = frame["tumor_area_mm2"] / frame["tissue_area_mm2"]
    frame["largest_focus_mm2"] = by["largest_focus_mm2"].max()
    frame["tumor_fraction_range"] = by["share"].agg(lambda s: np.ptp(s) if len(s) > 1 else np.nan)
    clinical = pd.DataFrame(planted_clinical()).set_index("patient_id")
    return frame.join(clinical, how="inner")


def split(frame: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    a, b = (frame.loc[frame["subtype"] == group, name].dropna() for group in "ab")
    return a, b


def test_descriptions_are_those_of_pandas(groups):
    frame = patients()
    found = {(row.measure, row.group): row for row in groups.descriptions}
    for name in MEASURES:
        for group, values in (*zip("ab", split(frame, name), strict=True), (None, frame[name])):
            row = found[name, group]
            d = row.description
            assert d.n == values.count()
            assert row.missing == len(values) - values.count() or group is not None
            assert d.median == pytest.approx(values.median())
            assert (d.q1, d.q3) == pytest.approx(tuple(values.quantile([0.25, 0.75])))
            assert d.mean.value == pytest.approx(values.mean())
            error = values.std() / np.sqrt(values.count())
            assert d.mean.high - d.mean.low == pytest.approx(2 * 1.97 * error, rel=0.15)


@pytest.mark.parametrize("flagged", [True, False])
def test_tests_of_groups_are_those_of_pingouin(groups, flagged):
    frame = patients(flagged=flagged)
    findings = groups.findings if flagged else groups.without_flagged
    expected = [pingouin.mwu(*split(frame, name)) for name in MEASURES]
    raw = [float(row["p_val"].iloc[0]) for row in expected]
    _, corrected = pingouin.multicomp(raw, method="holm")
    assert [finding.measure for finding in findings] == list(MEASURES)
    for finding, row, p, p_holm in zip(findings, expected, raw, corrected, strict=True):
        assert finding.p == pytest.approx(p)
        assert finding.p_holm == pytest.approx(p_holm)
        delta = 2 * row["CLES"].iloc[0] - 1
        assert finding.effects[0].estimate.value == pytest.approx(delta)
        assert finding.n == frame[finding.measure].count()


def test_the_planted_difference_is_found_and_no_other(groups):
    assert [f.measure for f in groups.findings if f.differs] == ["tumor_fraction_of_tissue"]


def test_influence_is_a_repeated_test_without_the_patient(groups):
    frame = patients()
    for wanted in (groups.influences[0], groups.influences[200], groups.influences[-1]):
        rest = frame.drop(wanted.patient.patient_id)
        ps = [stats.mannwhitneyu(*split(rest, name)).pvalue for name in MEASURES]
        _, corrected = pingouin.multicomp(ps, method="holm")
        k = MEASURES.index(wanted.test.measure)
        a, b = split(rest, wanted.test.measure)
        delta = np.sign(a.to_numpy()[:, None] - b.to_numpy()).mean()
        assert wanted.p_holm == pytest.approx(corrected[k])
        assert wanted.effect == pytest.approx(delta)
        assert wanted.change == pytest.approx(delta - groups.findings[k].effects[0].estimate.value)
        assert wanted.changes == ((corrected[k] < 0.05) != groups.findings[k].differs)


def test_influences_that_change_an_answer_come_first_then_by_influence_times_doubt(groups):
    keys = [(not i.changes, -abs(i.change) * i.doubt) for i in groups.influences]
    assert keys == sorted(keys)
    assert len(keys) == sum(finding.n for finding in groups.findings)


def test_three_groups_are_those_of_pingouin():
    rows = planted_clinical()
    for k, row in enumerate(rows):
        row["grade"] = str(1 + k % 3)
    joined = joined_cohort(planted_rows(), rows)
    analysis = analyse(joined, make_question(joined, "grade", None, None))
    frame = patients().assign(grade=[row["grade"] for row in rows])
    for finding in analysis.findings:
        values = frame[[finding.measure, "grade"]].dropna()
        expected = pingouin.kruskal(values, dv=finding.measure, between="grade")
        assert finding.p == pytest.approx(expected["p_unc"].iloc[0])
        assert finding.statistic == pytest.approx(expected["H"].iloc[0])
        assert len(finding.effects) == 4
    assert not any(finding.differs for finding in analysis.findings)


def test_numbers_are_correlated_as_by_pingouin():
    analysis = asked("age")
    frame = patients().assign(age=lambda f: f["age"].astype(float))
    for finding in analysis.findings:
        values = frame[[finding.measure, "age"]].dropna()
        expected = pingouin.corr(values[finding.measure], values["age"], method="spearman")
        assert finding.statistic == pytest.approx(expected["r"].iloc[0])
        assert finding.p == pytest.approx(expected["p_val"].iloc[0])
    rest = frame.drop(analysis.influences[0].patient.patient_id).dropna(
        subset=[analysis.influences[0].test.measure]
    )
    rho = stats.spearmanr(rest[analysis.influences[0].test.measure], rest["age"]).statistic
    assert analysis.influences[0].effect == pytest.approx(rho)


@pytest.mark.parametrize("kind", ["groups", "number"])
def test_the_null_is_rejected_at_its_nominal_rate(kind):
    """500 cohorts without an effect; 5 % are rejected, within 3 standard errors."""
    question, random = Question("x", kind), np.random.default_rng(7)
    rejected = 0
    for _ in range(500):
        values = random.beta(2, 5, 60)
        drawn = random.integers(0, 2, 60) if kind == "groups" else random.random(60)
        cells = [str(x) for x in drawn]
        finding = _test(question, values, cells)
        rejected += finding.p < 0.05
    assert abs(rejected / 500 - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 500)


@pytest.mark.long
def test_a_family_of_null_tests_is_rejected_at_most_at_the_level():
    """300 cohorts with five measures and no effect; at most 5 % reject anything."""
    joined = joined_cohort(planted_rows(60), planted_clinical(60))
    question = make_question(joined, "subtype", None, None)
    values = patient_values(joined.patients)
    random, rejected = np.random.default_rng(3), 0
    for _ in range(300):
        drawn = {name: random.normal(size=60) for name in values.values}
        found = _findings(question, replace(values, values=drawn), "all")
        rejected += any(finding.differs for finding in found)
    assert rejected / 300 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert rejected > 0


def test_one_group_and_constant_values_are_not_compared():
    rows = [{**row, "subtype": "a"} for row in planted_clinical(20)]
    joined = joined_cohort(planted_rows(20), rows)
    analysis = analyse(joined, make_question(joined, "subtype", None, None))
    assert analysis.findings == ()
    assert analysis.influences == ()
    assert len(analysis.descriptions) > 0


def test_without_a_column_the_cohort_is_described():
    joined = joined_cohort(planted_rows(10))
    analysis = analyse(joined, make_question(joined, None, None, None))
    assert {row.group for row in analysis.descriptions} == {None}
    assert analysis.groups == ()
    assert {measure.name for measure in analysis.missing} >= {"necrosis_fraction"}
