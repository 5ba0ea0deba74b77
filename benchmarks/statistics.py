"""Rates of error, coverage and time of the statistics of a cohort, by simulation.

    python -m benchmarks.statistics [--simulations 2000] [--patients 5000]

The first table has the share of simulations without any effect in which p is below 0.05. The
second has the share of 95 % intervals that hold the true figure. The third has the time of the
analysis of many patients: ten measures, four groups, and survival.
"""

import argparse
import math
import time
import tracemalloc
from collections.abc import Callable, Iterable

import numpy as np
from scipy.special import ndtr

from benchmarks.common import machine
from noctile.pipeline.arrays import Bool, Float64
from noctile.pipeline.statistics.bootstrap import bootstrap
from noctile.pipeline.statistics.correlation import spearman
from noctile.pipeline.statistics.cox_without_each import cox_without_each
from noctile.pipeline.statistics.describe import describe
from noctile.pipeline.statistics.effect_sizes import cliffs_delta, epsilon_squared
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.groups import compare, kruskal_wallis, mann_whitney
from noctile.pipeline.statistics.kaplan_meier import kaplan_meier
from noctile.pipeline.statistics.log_rank import LogRank, logrank, logrank_without_each
from noctile.pipeline.statistics.survival import Cox, cox
from noctile.pipeline.statistics.without_each import compare_without_each

Random = np.random.Generator
Draw = Callable[[Random, int], Estimate]


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--patients", type=int, default=5_000)
    options = parser.parse_args()
    print(machine())
    _errors(options.simulations)
    _coverage(options.simulations)
    _times(options.patients)


def _table(head: str, rows: Iterable[str]) -> None:
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}", flush=True)
    for row in rows:
        print(f"| {row} |", flush=True)


def _survival(random: Random, n: int, beta: float = 0) -> tuple[Float64, Bool, Float64]:
    """Times, events and a measure with a log hazard ratio; a third is censored."""
    x = random.normal(size=n)
    times, watched = random.exponential(np.exp(-beta * x)), random.exponential(2.0, n)
    return np.minimum(times, watched), times <= watched, x


def _errors(simulations: int) -> None:
    """Print the rate of errors of each test where nothing differs."""

    def survival(n: int) -> Callable[[Random], list[float]]:
        def test(random: Random) -> list[float]:
            patients = _survival(random, n)
            found = cox(*patients)
            sides = logrank(*patients[:2], ["a" if x > 0 else "b" for x in patients[2]])
            if not isinstance(found, Cox) or not isinstance(sides, LogRank):
                return [math.nan] * 3
            return [sides.p, found.p, found.p_proportional]

        return test

    def ranks(draw: Callable[[Random, int], Float64]) -> Callable[[Random], list[float]]:
        def test(random: Random) -> list[float]:
            parts = [draw(random, 20) for _ in range(4)]
            found = spearman(*parts[:2])
            return [
                mann_whitney(*parts[:2])[1],
                kruskal_wallis(parts)[1],
                found.p if found else math.nan,
            ]

        return test

    survivals = ("log-rank, {}", "Cox, {}", "proportional hazards, {}")
    names = ("Mann-Whitney, 2 x 20", "Kruskal-Wallis, 4 x 20", "Spearman, 20")
    tests = [
        ("lognormal values", names, ranks(lambda random, n: random.lognormal(size=n))),
        ("values of 0 to 4, tied", names, ranks(_tied)),
        ("a third censored", tuple(name.format(40) for name in survivals), survival(40)),
        ("a third censored", tuple(name.format(200) for name in survivals), survival(200)),
    ]
    rows = []
    for data, labels, test in tests:
        random = np.random.default_rng(0)
        p = np.array([test(random) for _ in range(simulations)])
        for label, column in zip(labels, p.T, strict=True):
            known = column[np.isfinite(column)]
            rows.append(f"{label} | {data} | {len(known)} | {np.mean(known < 0.05):.3f}")
    _table("test, patients | data | simulations | rejected at 0.05", rows)


def _tied(random: Random, n: int) -> Float64:
    return random.integers(0, 5, n).astype(np.float64)


def _coverage(simulations: int) -> None:
    """Print the share of intervals that hold the true figure."""
    large = np.random.default_rng(1)
    cases: dict[str, tuple[float, Draw, tuple[int, ...]]] = {
        "mean of {} normal values": (0, _normal, (10, 20, 40, 200)),
        "mean of {} shares, beta(2, 5)": (2 / 7, _shares, (10, 20, 40, 200)),
        "mean of {} exponential values": (1, _exponential, (10, 20, 40, 200)),
        "Cliff's delta of {} and as many": (2 * ndtr(0.8 / 2**0.5) - 1, _delta, (10, 20, 40, 200)),
        "Spearman's rho of {}": (6 / math.pi * math.asin(0.6 / 2), _rho, (10, 20, 40, 200)),
        "epsilon squared of 3 x {}, small": (_small(large, 200_000).value, _small, (20, 100)),
        "epsilon squared of 3 x {}, large": (_large(large, 200_000).value, _large, (20, 100)),
        "hazard ratio of {}, a third censored": (math.exp(0.5), _ratio, (40, 200)),
    }
    rows = []
    for name, (truth, draw, sizes) in cases.items():
        for n in sizes:
            random = np.random.default_rng(0)
            found = [draw(random, n) for _ in range(simulations)]
            ends = np.array([(one.low, one.high) for one in found])
            ends = ends[np.isfinite(ends).all(axis=1)]
            held = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
            rows.append(f"{name.format(n)} | {len(ends)} | {held:.3f}")
    _table("figure | simulations | 95 % intervals that hold it", rows)


def _normal(random: Random, n: int) -> Estimate:
    return bootstrap(random.normal(size=n))


def _shares(random: Random, n: int) -> Estimate:
    return bootstrap(random.beta(2, 5, n))


def _exponential(random: Random, n: int) -> Estimate:
    return bootstrap(random.exponential(size=n))


def _delta(random: Random, n: int) -> Estimate:
    return cliffs_delta(random.normal(0.8, 1, n), random.normal(size=n))


def _small(random: Random, n: int) -> Estimate:
    return _epsilon(random, n, 0.25)


def _large(random: Random, n: int) -> Estimate:
    return _epsilon(random, n, 1)


def _rho(random: Random, n: int) -> Estimate:
    x = random.normal(size=n)
    found = spearman(x, 0.6 * x + 0.8 * random.normal(size=n))
    return found.rho if found else Estimate(math.nan)


def _epsilon(random: Random, n: int, shift: float) -> Estimate:
    parts = [random.normal(k * shift, 1, n) for k in range(3)]
    return epsilon_squared(kruskal_wallis(parts)[0], 3 * n, 3)


def _ratio(random: Random, n: int) -> Estimate:
    found = cox(*_survival(random, n, 0.5))
    return found.hazard_ratio if isinstance(found, Cox) else Estimate(math.nan)


def _times(patients: int) -> None:
    """Print the processor time of each part of an analysis."""
    random = np.random.default_rng(0)
    measures = list(random.lognormal(size=(10, patients)))
    groups = [f"g{k}" for k in random.integers(0, 4, patients)]
    names = np.array(groups)
    times, event, x = _survival(random, patients, 0.3)
    parts: dict[str, Callable[[], object]] = {
        "descriptions, 10 measures of 4 groups": lambda: [
            describe(values[names == group]) for values in measures for group in set(groups)
        ],
        "comparisons of 4 groups, 10 measures": lambda: [compare(v, groups) for v in measures],
        "correlations, 10 measures": lambda: [spearman(v, x) for v in measures],
        "Kaplan-Meier of 4 groups": lambda: [
            kaplan_meier(times[names == group], event[names == group]) for group in set(groups)
        ],
        "log-rank of 4 groups": lambda: logrank(times, event, groups),
        "Cox, 10 measures": lambda: [cox(times, event, v) for v in measures],
        "comparisons of 4 groups without each patient, 10 measures": lambda: [
            compare_without_each(v, groups) for v in measures
        ],
        "log-rank of 4 groups without each patient": lambda: logrank_without_each(
            times, event, groups
        ),
        "Cox without each patient, 10 measures": lambda: [
            cox_without_each(times, event, v) for v in measures
        ],
    }
    mann_whitney(x[:9], x[9:20])
    logrank(times, event, groups)
    rows, total = [], 0.0
    for name, work in parts.items():
        start = time.process_time()
        work()
        seconds = time.process_time() - start
        total += seconds
        rows.append(f"{name} | {seconds:.2f} | {_peak_mb(work):.0f}")
    _table(
        f"{patients} patients | processor time (s) | arrays (MB)", [*rows, f"all | {total:.2f} | "]
    )


def _peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    main()
