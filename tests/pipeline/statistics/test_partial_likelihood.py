"""Cox regression with ties against a likelihood written term by term, and statsmodels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from statsmodels.duration.hazard_regression import PHReg

from noctile.pipeline.statistics.partial_likelihood import PartialLikelihood


def cohort(n: int, seed: int, grid: float | None):
    """Patients with a log hazard ratio of 0.7; times on a grid are tied."""
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    time, censored = random.exponential(np.exp(-0.7 * x)), random.exponential(2.0, n)
    watched = np.minimum(time, censored)
    return (np.ceil(watched / grid) if grid else watched), time <= censored, x


def efron(time, event, x, beta) -> float:
    """Minus the log partial likelihood, term by term."""
    total = 0.0
    for t in np.unique(time[event]):
        dying, risk = event & (time == t), np.exp(beta * x[time >= t]).sum()
        d, own = dying.sum(), np.exp(beta * x[dying]).sum()
        total += beta * x[dying].sum() - sum(math.log(risk - k / d * own) for k in range(d))
    return -total


def brute_force(time, event, x) -> tuple[float, float]:
    """Log hazard ratio and standard error by a general minimizer and second differences."""

    def loss(beta: float) -> float:
        return efron(time, event, x, beta)

    beta = optimize.minimize_scalar(
        loss, bounds=(-6, 6), method="bounded", options={"xatol": 1e-9}
    ).x
    h = 1e-3
    curvature = (loss(beta + h) - 2 * loss(beta) + loss(beta - h)) / h**2
    return beta, curvature**-0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("grid", [0.1, 0.7, None])
def test_the_maximum_is_that_of_a_general_minimizer(seed, grid):
    patients = cohort(40, seed, grid)
    found = PartialLikelihood.of(*patients).maximize()
    assert found == pytest.approx(brute_force(*patients), abs=2e-5)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(-3, 3)), max_size=15),
    st.floats(-2, 2),
)
def test_law_the_likelihood_is_that_of_efron(patients, beta):
    rows = np.array([*patients, (1, True, 0)], float)
    time, event, x = rows[:, 0], rows[:, 1] > 0, rows[:, 2]
    found = PartialLikelihood.of(time, event, x).means(beta)[0]
    assert found == pytest.approx(-efron(time, event, x, beta), abs=1e-9)


def test_residuals_are_those_of_statsmodels():
    time, event, x = cohort(50, 0, None)
    fitted = PHReg(time, x[:, None], status=event.astype(int)).fit(disp=False)
    likelihood = PartialLikelihood.of(time, event, x)
    other = fitted.schoenfeld_residuals[event, 0][np.argsort(time[event])]
    assert likelihood.residuals(float(fitted.params[0])) == pytest.approx(other, abs=1e-8)


def test_residuals_add_up_to_nothing_at_the_maximum():
    likelihood = PartialLikelihood.of(*cohort(60, 1, 0.3))
    beta, _ = likelihood.maximize()
    assert likelihood.residuals(beta).sum() == pytest.approx(0, abs=1e-6)


def test_separated_patients_have_no_maximum():
    time, event = np.arange(1.0, 21), np.arange(20) % 2 == 0
    for x in (time, -time, (time > 19).astype(float)):
        assert PartialLikelihood.of(time, event, x).separated
    x = time.copy()
    x[4] = 0
    assert not PartialLikelihood.of(time, event, x).separated
    assert abs(PartialLikelihood.of(time, event, -x).maximize()[0]) < 10


def test_a_constant_measure_has_no_maximum():
    time, event, _ = cohort(20, 0, None)
    assert PartialLikelihood.of(time, event, np.zeros(20)).maximize() is None
