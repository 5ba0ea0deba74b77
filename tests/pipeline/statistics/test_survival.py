"""Cox regression against statsmodels, a published trial, and the nominal rate of errors."""

import math
import time as clock

import numpy as np
import pytest
from statsmodels.duration.hazard_regression import PHReg
from survival_data import cohort, trial

from noctile.pipeline.statistics import survival
from noctile.pipeline.statistics.survival import MIN_EVENTS, Cox, Refusal, cox


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
        monkeypatch.setattr(survival.PartialLikelihood, "maximize", lambda self, beta: None)
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
