"""Log-rank and Cox against brute force, a published trial, and the nominal rate of errors."""

import math
import time as clock
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.hazard_regression import PHReg

from noctile.pipeline.statistics import survival
from noctile.pipeline.statistics.survival import (
    MIN_EVENTS,
    Cox,
    Refusal,
    cox,
    cox_influence,
    logrank,
)

PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSE = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
"""Remission of leukemia (weeks) with and without 6-mercaptopurine: Freireich et al., 1963."""


def trial() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    time, event = np.array(PLACEBO + TREATED, float), np.array([1] * 21 + RELAPSE, bool)
    return time, event, np.repeat((1.0, 0.0), 21)


def cohort(n: int, beta: float, seed: int = 0, ties: bool = True):
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    time = random.exponential(np.exp(-beta * x))
    censored = random.exponential(2.0, n)
    watched = np.minimum(time, censored)
    return (np.ceil(watched * 8) if ties else watched), time <= censored, x


class TestLogRank:
    def test_the_leukemia_trial(self) -> None:
        """Textbooks print 16.79 for these data."""
        time, event, group = trial()
        found = logrank(time, event, ["placebo" if g else "treated" for g in group])
        assert found.statistic == pytest.approx(16.79, abs=0.005)
        assert (found.freedom, found.n, found.events) == (1, 42, 30)
        assert found.p == pytest.approx(stats.chi2.sf(found.statistic, 1))

    def test_two_groups_equal_sums_over_the_times(self) -> None:
        time, event, x = cohort(50, 0.5)
        first = x > 0
        observed = expected = variance = 0.0
        for t in np.unique(time[event]):
            n, d = (time >= t).sum(), (event & (time == t)).sum()
            n1 = (first & (time >= t)).sum()
            observed += (event & first & (time == t)).sum()
            expected += d * n1 / n
            variance += d * n1 / n * (1 - n1 / n) * (n - d) / (n - 1) if n > 1 else 0
        found = logrank(time, event, ["a" if f else "b" for f in first])
        assert found.statistic == pytest.approx((observed - expected) ** 2 / variance)

    def test_three_groups_agree_with_scipy_for_pairs(self) -> None:
        time, event, x = cohort(60, 0.0, 4)
        names = np.array(["a", "b", "c"])[np.digitize(x, (-0.5, 0.5))]
        found = logrank(time, event, names.tolist())
        assert found.freedom == 2
        pair = names != "c"
        sides = [
            stats.CensoredData(
                uncensored=time[(names == k) & event], right=time[(names == k) & ~event]
            )
            for k in "ab"
        ]
        other = stats.logrank(*sides)
        two = logrank(time[pair], event[pair], names[pair].tolist())
        assert two.p == pytest.approx(other.pvalue)

    def test_refusals(self) -> None:
        time, event = np.arange(1.0, 31), np.arange(30) < MIN_EVENTS - 1
        assert logrank(time, event, ["a", "b"] * 15) is Refusal.TOO_FEW_EVENTS
        assert logrank(time, ~event, ["a"] * 30) is Refusal.NO_VARIATION
        with pytest.raises(ValueError, match="30 times have 2 groups"):
            logrank(time, event, ["a", "b"])

    def test_the_null_is_rejected_at_its_nominal_rate(self) -> None:
        p = []
        for seed in range(500):
            time, event, x = cohort(40, 0.0, seed)
            p.append(logrank(time, event, ["a" if v > 0 else "b" for v in x]).p)
        assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)


class TestCox:
    def test_the_leukemia_trial(self) -> None:
        """Efron's method gives a log hazard ratio of 1.572 with standard error 0.412 there."""
        time, event, placebo = trial()
        found = cox(time, event, placebo)
        assert math.log(found.hazard_ratio.value) == pytest.approx(1.572, abs=0.001)
        width = math.log(found.hazard_ratio.high / found.hazard_ratio.low)
        assert width / 2 / 1.96 == pytest.approx(0.412, abs=0.001)

    @pytest.mark.parametrize("seed", range(4))
    def test_it_agrees_with_statsmodels(self, seed: int) -> None:
        time, event, x = cohort(45, 0.7, seed)
        found = cox(time, event, x)
        other = PHReg(time, x[:, None], status=event.astype(int), ties="efron").fit(disp=False)
        assert math.log(found.hazard_ratio.value) == pytest.approx(other.params[0], abs=1e-6)
        ends = np.log([found.hazard_ratio.low, found.hazard_ratio.high])
        assert ends == pytest.approx(other.conf_int()[0], abs=1e-5)
        assert found.p == pytest.approx(other.pvalues[0], rel=1e-4)
        assert (found.n, found.events) == (45, event.sum())

    def test_the_ratio_is_for_a_unit(self) -> None:
        time, event, x = cohort(60, 0.7)
        one, ten = cox(time, event, x / 100), cox(time, event, x / 100, unit=0.1)
        assert math.log(ten.hazard_ratio.value) == pytest.approx(
            math.log(one.hazard_ratio.value) / 10, rel=1e-6
        )
        assert (ten.p, ten.unit) == (pytest.approx(one.p), 0.1)

    def test_a_cut_compares_those_above_it_with_the_others(self) -> None:
        time, event, x = cohort(60, 0.7)
        found = cox(time, event, x, unit=3, cut=0.5)
        plain = cox(time, event, (x > 0.5).astype(float))
        assert (found.hazard_ratio, found.p) == (plain.hazard_ratio, plain.p)
        assert (found.cut, found.unit, plain.cut) == (0.5, 1, None)

    def test_refusals(self) -> None:
        time, event, x = cohort(60, 0.0, ties=False)
        few = np.cumsum(event) < MIN_EVENTS
        assert cox(time, event & few, x) is Refusal.TOO_FEW_EVENTS
        assert cox(time, event, np.ones(60)) is Refusal.NO_VARIATION
        assert cox(time, event, x, cut=99) is Refusal.NO_VARIATION
        assert cox(time, event, -time) is Refusal.SEPARATED
        assert cox(time, event, time, cut=float(np.quantile(time, 0.999))) is Refusal.SEPARATED
        with pytest.raises(ValueError, match="missing"):
            cox(time, event, np.where(x > 0, x, np.nan))

    def test_a_fit_without_maximum_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(survival.PartialLikelihood, "maximize", lambda self: None)
        assert cox(*cohort(60, 0.0)) is Refusal.NOT_CONVERGED

    def test_an_outlier_far_away_is_no_trouble(self) -> None:
        time, event, x = cohort(60, 0.7)
        x[np.argmax(time)] = 1e9
        found = cox(time, event, x)
        assert isinstance(found, Cox)
        assert math.isfinite(found.p)

    def test_5000_patients_are_fast(self) -> None:
        measures = cohort(5000, 0.3, ties=False)
        start = clock.process_time()
        cox(*measures)
        assert clock.process_time() - start < 0.5

    def test_the_null_is_rejected_at_its_nominal_rate(self) -> None:
        found = [cox(*cohort(40, 0.0, seed)) for seed in range(500)]
        assert all(isinstance(one, Cox) for one in found)
        assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=0.025)
        proportional = np.mean([one.p_proportional < 0.05 for one in found])
        assert proportional == pytest.approx(0.05, abs=0.025)


class TestProportionalHazards:
    def test_a_ratio_that_changes_with_time_is_found(self) -> None:
        random = np.random.default_rng(0)
        group = np.repeat((0.0, 1.0), 100)
        time = np.where(group > 0, random.weibull(3, 200), random.weibull(0.8, 200))
        found = cox(time, np.ones(200, bool), group)
        assert found.p_proportional < 0.001


class TestInfluence:
    def exact(self, time, event, x) -> np.ndarray:
        whole = math.log(cox(time, event, x).hazard_ratio.value)
        rest: Callable[[int], Cox] = lambda k: cox(  # noqa: E731
            *(np.delete(part, k) for part in (time, event, x))
        )
        return np.array([math.log(rest(k).hazard_ratio.value) - whole for k in range(len(x))])

    def test_the_change_is_that_of_fits_without_the_patient(self) -> None:
        time, event, x = cohort(40, 0.7)
        exact = self.exact(time, event, x)
        assert cox_influence(time, event, x, refits=40) == pytest.approx(exact, abs=1e-6)
        some = cox_influence(time, event, x, refits=5)
        assert np.corrcoef(some, exact)[0, 1] > 0.97
        assert (np.abs(some - exact) < 1e-6).sum() >= 5
        assert np.abs(some).argmax() == np.abs(exact).argmax()

    def test_score_residuals_are_those_of_statsmodels(self) -> None:
        time, event, x = cohort(50, 0.7, ties=False)
        fitted = PHReg(time, x[:, None], status=event.astype(int)).fit(disp=False)
        found = survival._score_residuals(time, event, x, float(fitted.params[0]))
        assert found == pytest.approx(fitted.score_residuals[:, 0], abs=1e-8)
        assert found.sum() == pytest.approx(0, abs=1e-6)

    def test_refusals(self) -> None:
        time, event, x = cohort(40, 0.0)
        assert cox_influence(time, np.zeros(40, bool), x) is Refusal.TOO_FEW_EVENTS
        only = int(np.argmax(event))
        found = cox_influence(time, event, np.eye(40)[only], refits=40)
        assert np.flatnonzero(np.isnan(found)).tolist() == [only]
