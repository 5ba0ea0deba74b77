"""Prediction-powered inference: predictions for all patients, the truth for some of them.

A mean, or a difference of two groups, keeps the precision that good predictions give, and stays
right if they are bad. Sources: Angelopoulos et al., Prediction-powered inference, Science 382
(2023), 669-674; Angelopoulos, Duchi and Zrnic, PPI++: efficient prediction-powered inference,
arXiv:2311.01453 (2023) (power tuning). With its tuning, the estimate of a mean is the regression
estimator of double sampling (Cochran, Sampling Techniques, 3rd edition, 1977, chapter 12), whose
small-sample variance is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.quantiles import t_interval, welch

LEAST_ANNOTATED: Final = 4
"""Smallest number of annotated patients of a group."""


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """Mean of the true values of a population of patients.

    Attributes:
        patients: number of patients with a prediction.
        annotated: number of patients with the truth, too.
        mean: mean of the true values; without an interval if the true values of the annotated
            patients do not differ, because they tell no error then.
        standard_error: standard error of the mean; 0 without an interval.
        df: degrees of freedom of the interval.
        tuning: weight of the predictions (lambda of PPI++): 0 ignores them, 1 takes them in full.
        predicted: mean of all predictions.
        annotated_mean: mean of the true values of the annotated patients alone.
        annotated_error: standard error of that mean; 0 without an interval.
    """

    patients: int
    annotated: int
    mean: Estimate
    standard_error: float
    df: float
    tuning: float
    predicted: float
    annotated_mean: Estimate
    annotated_error: float


@dataclass(frozen=True, slots=True)
class PoweredDifference:
    """Difference of the means of two groups of patients.

    Attributes:
        first: mean of the first group.
        second: mean of the second group.
        difference: first - second; without an interval if one of the means has none.
        df: degrees of freedom (Welch); NaN without an interval.
        p: two-sided p of no difference; NaN without an interval.
    """

    first: PoweredMean
    second: PoweredMean
    difference: Estimate
    df: float
    p: float


def powered_mean(predicted: Float64, truth: Float64) -> PoweredMean | None:
    """Estimate the mean of the true values; None for fewer than `LEAST_ANNOTATED` annotations.

    The annotated patients must be chosen at random. The tuning is the slope of the truth on the
    prediction, times (patients - annotated) / patients, which is the optimum of PPI++.

    Args:
        predicted: float64 ``[patients]``, one prediction for each patient.
        truth: float64 ``[patients]``, the true value; NaN where it is not annotated.
    """
    known = ~np.isnan(truth)
    n, everyone = int(known.sum()), len(truth)
    if n < LEAST_ANNOTATED:
        return None
    y, f = truth[known], predicted[known]
    alone, alone_error = float(y.mean()), _error(y)
    squares = float(np.square(f - f.mean()).sum())
    if squares <= 1e-12 * float(np.square(f).sum()) or n == everyone:
        mean, error, slope, df = alone, alone_error, 0.0, float(n - 1)
    elif alone_error == 0:
        mean, error, slope, df = alone, 0.0, 0.0, float(n - 2)
    else:
        slope = float((f - f.mean()) @ y) / squares
        mean, error, df = _regression(predicted, known, y, slope)
    return PoweredMean(
        patients=everyone,
        annotated=n,
        mean=_interval(mean, error, df),
        standard_error=error,
        df=df,
        tuning=slope * (everyone - n) / everyone,
        predicted=float(predicted.mean()),
        annotated_mean=_interval(alone, alone_error, n - 1),
        annotated_error=alone_error,
    )


def joined_mean(groups: Sequence[PoweredMean]) -> PoweredMean:
    """Join the means of groups to that of all patients, each group weighted with its patients.

    The annotated patients are chosen at random within each group; their parts of the groups may
    differ. (Stratified sampling: Cochran, chapter 5, with the degrees of freedom of Satterthwaite.)

    Args:
        groups: mean of each group, at least one.
    """
    patients = np.array([group.patients for group in groups], np.float64)
    weights = patients / patients.sum()
    mean, error, df = _joined(weights, [(g.mean.value, g.standard_error, g.df) for g in groups])
    alone, alone_error, alone_df = _joined(
        weights, [(g.annotated_mean.value, g.annotated_error, g.annotated - 1) for g in groups]
    )
    return PoweredMean(
        patients=int(patients.sum()),
        annotated=sum(group.annotated for group in groups),
        mean=_interval(mean, error, df),
        standard_error=error,
        df=df,
        tuning=float(weights @ [group.tuning for group in groups]),
        predicted=float(weights @ [group.predicted for group in groups]),
        annotated_mean=_interval(alone, alone_error, alone_df),
        annotated_error=alone_error,
    )


def powered_difference(
    predicted: Float64, truth: Float64, in_first: Bool, in_second: Bool
) -> PoweredDifference | None:
    """Estimate the difference of two groups' means; None if one has too few annotations.

    Args:
        predicted: float64 ``[patients]``, one prediction for each patient.
        truth: float64 ``[patients]``, the true value; NaN where it is not annotated.
        in_first: bool ``[patients]``, True for patients of the first group.
        in_second: bool ``[patients]``, True for patients of the second group.
    """
    first = powered_mean(predicted[in_first], truth[in_first])
    second = powered_mean(predicted[in_second], truth[in_second])
    if first is None or second is None:
        return None
    a, b = first.standard_error**2, second.standard_error**2
    difference = first.mean.value - second.mean.value
    if not min(a, b) > 0:
        return PoweredDifference(first, second, Estimate(difference), np.nan, np.nan)
    return PoweredDifference(first, second, *welch(difference, (a, b), (first.df, second.df)))


def _regression(
    predicted: Float64, known: Bool, y: Float64, slope: float
) -> tuple[float, float, float]:
    """Return mean, standard error and degrees of freedom of the regression estimator."""
    f = predicted[known]
    n, everyone = len(y), len(predicted)
    shift = float(predicted.mean() - f.mean())
    residual = y - y.mean() - slope * (f - f.mean())
    noise = float(np.square(residual).sum()) / (n - 2)
    spread = float(predicted.var(ddof=1))
    lever = shift**2 / float(np.square(f - f.mean()).sum())
    variance = noise * (1 / n + lever) + slope**2 * spread / everyone
    return float(y.mean()) + slope * shift, float(np.sqrt(variance)), n - 2


def _joined(
    weights: Float64, parts: Sequence[tuple[float, float, float]]
) -> tuple[float, float, float]:
    """Join values with their standard errors and degrees of freedom; the error is 0 if one is."""
    values, errors, dfs = np.array(parts, np.float64).T
    variances = np.square(weights * errors)
    if not variances.min() > 0:
        return float(weights @ values), 0.0, float(dfs.sum())
    total = float(variances.sum())
    df = total**2 / float((np.square(variances) / dfs).sum())
    return float(weights @ values), float(np.sqrt(total)), df


def _error(values: Float64) -> float:
    """Standard error of a mean; 0 if the values differ by rounding alone."""
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return 0.0
    return float(values.std(ddof=1)) / float(np.sqrt(len(values)))


def _interval(value: float, error: float, df: float) -> Estimate:
    return t_interval(value, error, df) if error > 0 else Estimate(value)
