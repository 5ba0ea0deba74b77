"""Survival times for tests: a published trial, and cohorts with a known effect."""

import numpy as np

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
