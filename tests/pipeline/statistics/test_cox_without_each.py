"""Cox regression without each patient, against fits of statsmodels without the patient."""

import time as clock

import numpy as np
import pytest
from statsmodels.duration.hazard_regression import PHReg

from noctile.pipeline.statistics import cox_without_each as module
from noctile.pipeline.statistics.cox_without_each import cox_without_each
from noctile.pipeline.statistics.survival import MIN_EVENTS, Refusal, fit


def drawn(n: int, beta: float, grid: float | None = None, spread: float | None = None):
    """Patients; times on a grid are tied, values with a spread have a long tail."""
    random = np.random.default_rng(n)
    x = random.lognormal(0, spread, n) if spread else random.normal(size=n)
    z = (x - x.mean()) / x.std()
    time, censored = random.exponential(np.exp(-beta * z)), random.exponential(2.0, n)
    watched = np.minimum(time, censored)
    return (np.ceil(watched / grid) if grid else watched), time <= censored, x


def without(k, time, event, x):
    return tuple(np.delete(part, k) for part in (time, event, x))


@pytest.mark.parametrize("patients", [(40, 0.7), (40, 0.7, 0.1), (40, 0.3, 1.0)])
def test_few_patients(patients) -> None:
    time, event, x = drawn(*patients)
    found = cox_without_each(time, event, x)
    for k in range(len(x)):
        t, e, rest = without(k, time, event, x)
        other = PHReg(t, rest[:, None], status=e.astype(int), ties="efron").fit(disp=False)
        assert found.effect[k] == pytest.approx(other.params[0], abs=2e-6)
        assert found.p[k] == pytest.approx(other.pvalues[0], rel=1e-4)


@pytest.mark.parametrize("grid", [None, 0.02, 0.5])
@pytest.mark.parametrize("spread", [None, 1.2])
def test_many_patients(grid, spread) -> None:
    time, event, x = drawn(400, 0.12, grid, spread)
    found = cox_without_each(time, event, x)
    exact = [fit(*without(k, time, event, x)) for k in range(len(x))]
    beta, error = np.array(exact).T
    assert np.abs(found.effect - beta).max() * x.std() < 1e-6
    assert found.p == pytest.approx(2 * module.ndtr(-np.abs(beta / error)), rel=3e-3)


def test_a_value_far_away_is_left_out_exactly() -> None:
    time, event, x = drawn(300, 0.3)
    x[np.argmax(time)] = 60.0
    found = cox_without_each(time, event, x)
    for k in (int(np.argmax(time)), *range(5)):
        assert found.effect[k] == pytest.approx(fit(*without(k, time, event, x))[0], rel=1e-4)


@pytest.mark.parametrize("seed", [351, 400, 1769])
def test_a_patient_without_whom_the_curvature_is_another_one(seed) -> None:
    random = np.random.default_rng(seed)
    x, time, event = random.lognormal(0, 2, 210), random.exponential(size=210), random.random(210)
    event = event < 0.06
    found = cox_without_each(time, event, x)
    beta, error = np.array([fit(*without(k, time, event, x)) for k in range(len(x))]).T
    assert found.p == pytest.approx(2 * module.ndtr(-np.abs(beta / error)), rel=1e-2)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = drawn(250, 0.5, 0.3)
    whole = cox_without_each(*patients)
    monkeypatch.setattr(module, "_CHUNK_VALUES", 500)
    small = cox_without_each(*patients)
    assert small.effect == pytest.approx(whole.effect, abs=1e-12)
    assert small.p == pytest.approx(whole.p, rel=1e-9)


def test_most_patients_of_a_large_cohort_need_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    monkeypatch.setattr(module, "fit", lambda *about: fits.append(1) or fit(*about))
    patients = drawn(5000, 0.1)
    start = clock.process_time()
    cox_without_each(*patients)
    assert clock.process_time() - start < 2
    assert len(fits) < 100


def test_refusals() -> None:
    time, event, x = drawn(40, 0.0)
    assert np.isnan(cox_without_each(time, np.zeros(40, bool), x).p).all()
    only = int(np.argmax(event))
    found = cox_without_each(time, event, np.eye(40)[only])
    assert np.flatnonzero(np.isnan(found.effect)).tolist() == [only]
    few = event & (np.cumsum(event) <= MIN_EVENTS)
    assert np.isnan(cox_without_each(time, few, x).p).tolist() == few.tolist()


def test_a_patient_who_alone_keeps_the_values_from_separating_the_events() -> None:
    time, event = np.arange(1.0, 31), np.ones(30, bool)
    x = -time
    x[[10, 11]] = x[[11, 10]]
    found = cox_without_each(time, event, x)
    for k in range(30):
        refused = isinstance(fit(*without(k, time, event, x)), Refusal)
        assert np.isnan(found.effect[k]) == refused
    assert np.isnan(found.effect).any()
