"""Agreement of two readers on the points that both have answered: Cohen's kappa.

Source: Fleiss, Cohen and Everitt, Large sample standard errors of kappa and weighted kappa,
Psychological Bulletin 72 (1969), 323-327.
"""

from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.quantiles import NORMAL_QUANTILE


@dataclass(frozen=True, slots=True, eq=False)
class Kappa:
    """Agreement of two readers.

    Attributes:
        points: number of points that both have answered with a class.
        agreement: part of these points with equal answers, weighted, from 0 to 1.
        kappa: Cohen's kappa; NaN if both give all points the same class.
        table: float64 ``[classes, classes]``, points by the class of the first and of the second
            reader, weighted, adding up to 1.
    """

    points: int
    agreement: float
    kappa: Estimate
    table: Float64


def cohens_kappa(
    first: Int64, second: Int64, classes: int, weights: Float64 | None = None
) -> Kappa | None:
    """Return Cohen's kappa of two readers; None without a point that both answered with a class.

    Args:
        first: int64 ``[points]``, class or a negative code for each point.
        second: int64 ``[points]``, the same of the other reader.
        classes: number of classes.
        weights: float64 ``[points]``, weights of the design; equal by default. The standard error
            then takes the effective number of points (Kish).
    """
    both = (first >= 0) & (second >= 0)
    if not both.any():
        return None
    weight = np.ones(int(both.sum())) if weights is None else weights[both]
    cell = first[both] * classes + second[both]
    table = np.bincount(cell, weight, classes**2).reshape(classes, classes) / weight.sum()
    n = weight.sum() ** 2 / np.square(weight).sum()
    return Kappa(int(both.sum()), float(np.trace(table)), _kappa(table, float(n)), table)


def _kappa(table: Float64, n: float) -> Estimate:
    """Return kappa with its interval, from proportions and the number of points."""
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    observed, expected = float(np.trace(table)), float(rows @ columns)
    if expected >= 1 - 1e-12:
        return Estimate(np.nan)
    kappa = (observed - expected) / (1 - expected)
    loss = np.diag(table) @ np.square(1 - (rows + columns) * (1 - kappa))
    off = table * np.square(columns[:, None] + rows[None, :])
    others = (1 - kappa) ** 2 * (off.sum() - np.trace(off))
    variance = loss + others - (kappa - expected * (1 - kappa)) ** 2
    error = np.sqrt(max(0.0, float(variance)) / n) / (1 - expected)
    half = NORMAL_QUANTILE * error
    return Estimate(kappa, max(-1.0, kappa - half), min(1.0, kappa + half))
