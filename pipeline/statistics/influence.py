"""Influence of single patients on a figure, and the order in which to look at them."""

import math
from collections.abc import Callable

import numpy as np

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.statistics.effect_sizes import dominance
from noctile.pipeline.statistics.estimate import finite


def leave_one_out(
    statistic: Callable[[Int64], float], n: int, only: Int64 | None = None
) -> Float64:
    """Return a figure without each patient.

    Args:
        statistic: figure of the patients with these numbers, int64 ``[n - 1]``.
        n: number of patients.
        only: numbers of the patients that are left out, which limits the time; None for all.

    Returns:
        float64 ``[n]``, NaN for patients that are not left out.
    """
    every = np.arange(n)
    found = np.full(n, math.nan)
    for k in every if only is None else only:
        found[k] = statistic(np.delete(every, k))
    return found


def means_without(values: Float64) -> Float64:
    """Return the mean without each value, float64 ``[n]``; NaN for a single value.

    Args:
        values: float64 ``[n]``, finite.
    """
    values = finite(values)
    if len(values) < 2:
        return np.full(len(values), math.nan)
    return np.asarray((values.sum() - values) / (len(values) - 1), np.float64)


def medians_without(values: Float64) -> Float64:
    """Return the median without each value, float64 ``[n]``; NaN for a single value.

    Args:
        values: float64 ``[n]``, finite.
    """
    values = finite(values)
    n = len(values)
    if n < 2:
        return np.full(n, math.nan)
    ordered = np.sort(values)
    place = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    middles = np.array([(n - 2) // 2, (n - 1) // 2])
    moved = middles[:, None] + (place <= middles[:, None])
    return np.asarray(ordered[moved].mean(axis=0), np.float64)


def deltas_without(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """Return Cliff's delta without each value of the first, and of the second group.

    Args:
        a: float64 ``[n]``, values of the first group, finite, at least 2.
        b: float64 ``[m]``, values of the second group, finite, at least 2.

    Returns:
        float64 ``[n]`` and float64 ``[m]``.
    """
    a, b = finite(a), finite(b)
    of_a, of_b = dominance(a, np.sort(b))[0], -dominance(b, np.sort(a))[0]
    return means_without(of_a), means_without(of_b)


def ranked(influence: Float64, doubt: Float64) -> Int64:
    """Return the numbers of the patients in the order in which a reader should look at them.

    The first is the one with the largest product of influence and doubt: a patient that moves the
    result, and whose slides are doubtful. Patients without doubt follow, by influence.

    Args:
        influence: float64 ``[n]``, change of the result without the patient, of either sign; NaN
            where the result does not exist without the patient, which comes first.
        doubt: float64 ``[n]``, share of the patient's slides with a quality flag or with low
            confidence, 0..1.

    Raises:
        ValueError: if a doubt is missing or outside 0..1, or both differ in length.
    """
    doubt = finite(doubt, len(influence))
    if ((doubt < 0) | (doubt > 1)).any():
        raise ValueError("a doubt lies outside 0..1")
    size = np.where(np.isnan(influence), np.inf, np.abs(influence))
    product = np.where(doubt > 0, size, 0.0) * np.where(doubt > 0, doubt, 1.0)
    return np.lexsort((np.arange(len(size)), -size, -product)).astype(np.int64)
