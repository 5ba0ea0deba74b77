"""Audits of simulated cohorts with known truth: coverage, bias, width, error rate of comparisons.

``python -m benchmarks.audit [--cohorts 2000] [--only TABLE]`` prints tables in Markdown. Design and
estimators are those of the product. Only pixels are simulated: each slide has an area, a true tumor
share, and a sensitivity and specificity of the model, drawn from beta distributions among patients
and among their slides. A point at random in a predicted class of a slide is truly tumor with the
probability that follows.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from noctile.pipeline.arrays import Float64, Int64
from noctile.pipeline.audit.comparison import Measure, group_difference, patient_areas
from noctile.pipeline.audit.design import allocate, choose_slides, weights_mm2
from noctile.pipeline.audit.estimators import corrected_areas
from noctile.pipeline.audit.planning import further_points
from noctile.pipeline.audit.ppi import powered_difference, powered_mean
from noctile.pipeline.audit.sample import AuditFrame, AuditSample
from noctile.pipeline.statistics.estimate import Estimate

TUMOR = 0
"""Number of the class; 1 is all other tissue."""


@dataclass(frozen=True)
class Cell:
    """Kind of cohort and of audit.

    Attributes:
        sensitivity: mean sensitivity of the model, for each group.
        specificity: mean specificity of the model.
        clustering: correlation of errors of one slide (0: all slides are alike).
        slides: number of slides of the cohort.
        points: number of points.
        prevalence: mean true share of tumor.
        chosen: number of slides that are chosen; all by default.
        first: number of points of a first batch, which is answered before the others are drawn; all
            by default.
        half_width: wanted half-width of the tumor area, by the area, for which points are added to
            the first batch, to `points` at most; None to add all of `points`.
    """

    sensitivity: tuple[float, ...]
    specificity: float
    clustering: float
    slides: int
    points: int
    prevalence: float = 0.3
    chosen: int | None = None
    first: int | None = None
    half_width: float | None = None

    def __str__(self) -> str:
        """Return the cells of the row of a table."""
        of = self.slides if self.chosen is None else f"{self.chosen} of {self.slides}"
        sensitivity = " and ".join(f"{value:g}" for value in self.sensitivity)
        points = f"{self.first} to {self.points}" if self.first else f"{self.points}"
        if self.half_width:
            points = f"{self.first} to those for ± {self.half_width:.0%}"
        return (
            f"| {of} | {points} | {sensitivity} | {self.specificity:g} "
            f"| {self.clustering:g} | {self.prevalence:g}"
        )


HEAD = "| slides | points | sensitivity | specificity | clustering | prevalence"


@dataclass(frozen=True)
class Cohort:
    """Simulated cohort.

    Attributes:
        frame: slides with areas of predicted classes.
        tumor: float64 ``[slides, 2]``, part of each predicted class that is truly tumor.
    """

    frame: AuditFrame
    tumor: Float64

    @property
    def truth_mm2(self) -> Float64:
        """Float64 ``[slides]``, true tumor area (mm2)."""
        return np.asarray((self.frame.area_mm2 * self.tumor).sum(axis=1), np.float64)


def among(rng: np.random.Generator, mean: Float64, correlation: float) -> Float64:
    """Draw shares around means from beta distributions with a correlation within each draw."""
    if correlation == 0:
        return mean
    mean = np.clip(mean, 1e-3, 1 - 1e-3)
    size = 1 / correlation - 1
    return np.asarray(rng.beta(mean * size, (1 - mean) * size), np.float64)


def simulate(rng: np.random.Generator, cell: Cell) -> Cohort:
    """Draw a cohort: patients with one to three slides, in as many groups as sensitivities."""
    patients = np.repeat(np.arange(cell.slides), rng.integers(1, 4, cell.slides))[: cell.slides]
    n = int(patients.max()) + 1
    groups = rng.permutation(np.arange(n) % len(cell.sensitivity))

    def by_slide(mean: Float64, correlation: float) -> Float64:
        return among(rng, among(rng, mean, correlation / 2)[patients], correlation / 2)

    area = rng.lognormal(4, 0.7, cell.slides)
    true = by_slide(np.full(n, cell.prevalence), 0.1)
    sensitivity = by_slide(np.array(cell.sensitivity)[groups], cell.clustering)
    specificity = by_slide(np.full(n, cell.specificity), cell.clustering)
    tumor = np.stack([true * sensitivity, true * (1 - sensitivity)], axis=1)
    other = np.stack([(1 - true) * (1 - specificity), (1 - true) * specificity], axis=1)
    predicted = area[:, None] * (tumor + other)
    frame = AuditFrame(patients, groups[patients], predicted, np.ones(cell.slides))
    return Cohort(frame, tumor / (tumor + other))


def audit(rng: np.random.Generator, cohort: Cohort, cell: Cell) -> tuple[AuditFrame, AuditSample]:
    """Draw the points of a cohort by the design of the product, and answer them with the truth."""
    frame, seed = cohort.frame, int(rng.integers(2**31))
    total = frame.area_mm2.sum(axis=1)
    probability, chosen = choose_slides(total, frame.groups, frame.patients, cell.chosen, seed)
    frame = replace(frame, probability=probability)
    rows = np.flatnonzero(chosen)
    part = (frame.area_mm2[rows], frame.groups[rows], probability[rows])
    counts = allocate(*part, cell.first or cell.points, seed)
    row, stratum, answers = answered(rng, cohort.tumor[rows], counts)
    weights = weights_mm2(*part, counts)
    if cell.first:
        total = wanted_points(
            frame, AuditSample(rows[row], stratum, answers, weights[row, stratum]), cell
        )
        more = allocate(*part, total, seed, counts)
        further = answered(rng, cohort.tumor[rows], more)
        both = zip((row, stratum, answers), further, strict=True)
        row, stratum, answers = (np.concatenate(values) for values in both)
        weights = weights_mm2(*part, counts + more)
    return frame, AuditSample(rows[row], stratum, answers, weights[row, stratum])


def answered(rng: np.random.Generator, tumor: Float64, counts: Int64) -> tuple[Int64, Int64, Int64]:
    """Answer points with the truth; return the slide, the stratum and the answer of each."""
    row, stratum = np.nonzero(counts)
    times = counts[row, stratum]
    row, stratum = np.repeat(row, times), np.repeat(stratum, times)
    answers = np.where(rng.random(len(row)) < tumor[row, stratum], TUMOR, 1)
    return row, stratum, answers


def wanted_points(frame: AuditFrame, sample: AuditSample, cell: Cell) -> int:
    """Return the number of points in total that the first answers ask for."""
    n = len(sample.answers)
    if cell.half_width is None:
        return cell.points
    found = corrected_areas(frame, sample).classes[TUMOR]
    wanted = cell.half_width * found.area_mm2.value
    further = further_points(found.area_mm2, n, wanted, found.slides_part)
    return cell.points if further is None else min(cell.points, n + further)


@dataclass
class Score:
    """Errors and intervals of many estimates with known truth.

    Attributes:
        errors: estimate - truth.
        truths: true values.
        half_widths: halves of the widths of the intervals.
        covered: number of intervals that hold the truth.
    """

    errors: list[float] = field(default_factory=list)
    truths: list[float] = field(default_factory=list)
    half_widths: list[float] = field(default_factory=list)
    covered: int = 0

    def add(self, estimate: Estimate, truth: float) -> None:
        """Add an estimate, unless the truth or the estimate is undefined."""
        if np.isnan(truth) or np.isnan(estimate.value):
            return
        self.errors.append(estimate.value - truth)
        self.truths.append(truth)
        self.half_widths.append((estimate.high - estimate.low) / 2)
        self.covered += estimate.low - 1e-12 <= truth <= estimate.high + 1e-12

    @property
    def coverage(self) -> float:
        """Part of the intervals that hold the truth."""
        return self.covered / len(self.errors)

    @property
    def bias(self) -> float:
        """Mean error by the mean truth."""
        return float(np.mean(self.errors) / np.mean(self.truths))

    @property
    def half_width(self) -> float:
        """Mean half-width by the mean truth."""
        return float(np.mean(self.half_widths) / np.mean(self.truths))


@dataclass
class AreaScores:
    """Scores of the audits of many cohorts of one cell.

    Attributes:
        area: tumor area (mm2).
        users: user's accuracy of the predicted tumor.
        producers: producer's accuracy of the tumor.
        raw: predicted tumor area by the true one, for each cohort.
    """

    area: Score = field(default_factory=Score)
    users: Score = field(default_factory=Score)
    producers: Score = field(default_factory=Score)
    raw: list[float] = field(default_factory=list)


def score_areas(cell: Cell, cohorts: int, seed: int = 0) -> AreaScores:
    """Audit simulated cohorts of a cell, and compare the areas with the truth."""
    rng = np.random.default_rng(seed)
    scores = AreaScores()
    for _ in range(cohorts):
        cohort = simulate(rng, cell)
        found = corrected_areas(*audit(rng, cohort, cell)).classes[TUMOR]
        truth = float(cohort.truth_mm2.sum())
        hit = float((cohort.frame.area_mm2 * cohort.tumor)[:, TUMOR].sum())
        scores.area.add(found.area_mm2, truth)
        scores.users.add(found.users_accuracy, hit / found.predicted_mm2)
        scores.producers.add(found.producers_accuracy, hit / truth)
        scores.raw.append(found.predicted_mm2 / truth)
    return scores


MEASURES: tuple[Measure, ...] = ("area", "share", "patient_share")


def score_groups(cell: Cell, cohorts: int, seed: int = 0) -> dict[str, float]:
    """Compare two groups without a true difference; return the rate of p < 0.05 by measure.

    ``raw`` is the rate of Welch's test on the predicted shares of patients.
    """
    rng = np.random.default_rng(seed)
    rejected: dict[str, int] = dict.fromkeys((*MEASURES, "raw"), 0)
    for _ in range(cohorts):
        cohort = simulate(rng, cell)
        frame, sample = audit(rng, cohort, cell)
        areas = patient_areas(frame, sample, TUMOR)
        for measure in MEASURES:
            found = group_difference(areas, 0, 1, measure)
            rejected[measure] += found is not None and found.p < 0.05
        tumor = np.bincount(frame.patients, frame.area_mm2[:, TUMOR]).astype(np.float64)
        raw = replace(areas, area_mm2=tumor)
        predicted = group_difference(raw, 0, 1, "patient_share")
        rejected["raw"] += predicted is not None and predicted.p < 0.05
    return {name: times / cohorts for name, times in rejected.items()}


def score_annotated(
    cell: Cell, annotated: int, cohorts: int, seed: int = 0
) -> tuple[Score, Score, float]:
    """Annotate some patients in full, and infer the mean share of tumor by their predictions.

    Returns:
        Scores of the prediction-powered mean and of the mean of the annotated patients alone, and
        the rate of p < 0.05 for two halves of the patients, which do not differ.
    """
    rng = np.random.default_rng(seed)
    powered, alone, rejected = Score(), Score(), 0
    for _ in range(cohorts):
        cohort = simulate(rng, cell)
        patients, areas = cohort.frame.patients, cohort.frame.area_mm2
        total = np.bincount(patients, areas.sum(axis=1))
        truth = np.bincount(patients, cohort.truth_mm2) / total
        predicted = np.bincount(patients, areas[:, TUMOR]) / total
        order = rng.permutation(len(truth))
        truth[order[annotated:]] = np.nan
        half = np.isin(np.arange(len(truth)), order[::2])
        test = powered_difference(predicted, truth, half, ~half)
        rejected += test is not None and test.p < 0.05
        if found := powered_mean(predicted, truth):
            powered.add(found.mean, cell.prevalence)
            alone.add(found.annotated_mean, cell.prevalence)
    return powered, alone, rejected / cohorts


def score_rare(
    present: float, annotated: int, cohorts: int, seed: int = 0
) -> tuple[Score, Score, float, float]:
    """Annotate some of 100 patients, of whom a part has a class; its share is 10 % in these.

    The model finds 50 to 100 % of the class, and some where there is none.

    Returns:
        Scores of the prediction-powered mean and of the mean of the annotated patients alone, where
        there is an interval; the part of cohorts without one; and the rate of p < 0.05 for two
        halves of the patients, which do not differ.
    """
    rng = np.random.default_rng(seed)
    powered, alone, none, rejected = Score(), Score(), 0, 0
    for _ in range(cohorts):
        truth = np.where(rng.random(100) < present, rng.beta(1, 9, 100), 0.0)
        predicted = truth * rng.uniform(0.5, 1, 100) + rng.gamma(1, 0.005, 100)
        truth[annotated:] = np.nan
        half = np.arange(100) % 2 == 0
        test = powered_difference(predicted, truth, half, ~half)
        rejected += test is not None and test.p < 0.05
        found = powered_mean(predicted, truth)
        if found is None or np.isnan(found.mean.low):
            none += 1
            continue
        powered.add(found.mean, 0.1 * present)
        alone.add(found.annotated_mean, 0.1 * present)
    return powered, alone, none / cohorts, rejected / cohorts


MODELS = ((0.6, 0.8), (0.85, 0.93), (0.95, 0.99), (0.6, 0.99))
"""Sensitivity and specificity of the simulated models."""


def area_cells() -> list[Cell]:
    """Return the cells of the table of areas."""
    grid = product((5, 20, 200), (150, 300, 600), MODELS)
    cells = [Cell((se,), sp, 0.1, slides, points) for slides, points, (se, sp) in grid]
    usual = Cell((0.85,), 0.93, 0.1, 200, 300)
    others = [
        replace(usual, clustering=0),
        replace(usual, clustering=0.3),
        replace(usual, clustering=0.3, slides=20),
        replace(usual, chosen=60),
        replace(usual, chosen=20),
        replace(usual, prevalence=0.05),
        replace(usual, prevalence=0.6),
        replace(usual, sensitivity=(0.95, 0.6)),
        replace(usual, slides=2000),
    ]
    return cells + others


def group_cells() -> list[Cell]:
    """Return the cells of the table of comparisons."""
    kinds = product((20, 60, 200), ((0.85, 0.85), (0.95, 0.6)))
    cells = [Cell(se, 0.93, 0.1, slides, 300) for slides, se in kinds]
    return [*cells, replace(cells[-1], chosen=60)]


def chosen_cells() -> list[Cell]:
    """Return the cells of the table of chosen slides."""
    usual, models = Cell((0.85,), 0.93, 0.3, 200, 300), ((0.85, 0.93), (0.95, 0.99), (0.6, 0.99))
    kinds = [replace(usual, sensitivity=(se,), specificity=sp) for se, sp in models]
    many = replace(kinds[-1], slides=1000)
    return [
        *(replace(cell, chosen=chosen) for chosen in (10, 20, 40, 60, None) for cell in kinds),
        *(replace(many, chosen=chosen) for chosen in (40, 60, 100)),
        *(replace(many, chosen=chosen, points=600) for chosen in (60, 100, 150)),
    ]


def extended_cells() -> list[Cell]:
    """Return the cells of the table of audits with points that were added later."""
    usual = Cell((0.85,), 0.93, 0.1, 200, 300, first=150)
    models = [replace(usual, sensitivity=(se,), specificity=sp) for se, sp in MODELS]
    return [
        *(replace(cell, slides=slides) for slides in (5, 20, 200) for cell in models),
        replace(usual, clustering=0.3),
        replace(usual, sensitivity=(0.95, 0.6)),
        replace(usual, chosen=60),
        replace(usual, first=20),
        *(replace(cell, points=3000, half_width=0.1) for cell in models),
    ]


def print_areas(cohorts: int, cells: Sequence[Cell] | None = None) -> None:
    """Print a table of areas, row by row; that of `area_cells` by default."""
    columns = "raw / true, middle 90 % | area covered | bias | half-width | user's | producer's"
    print(f"{HEAD} | {columns} |")
    print("|---" * 12 + "|")
    for cell in area_cells() if cells is None else cells:
        scores = score_areas(cell, cohorts)
        low, high = np.quantile(scores.raw, [0.05, 0.95])
        area = scores.area
        print(
            f"{cell} | {low:.2f} to {high:.2f} | {area.coverage:.1%} | {area.bias:+.2%} "
            f"| {area.half_width:.1%} | {scores.users.coverage:.1%} "
            f"| {scores.producers.coverage:.1%} |",
            flush=True,
        )


def print_groups(cohorts: int) -> None:
    """Print the table of comparisons without a true difference."""
    print(f"{HEAD} | mean area | share of sums | mean share | mean share, raw |")
    print("|---" * 10 + "|")
    for cell in group_cells():
        rates = score_groups(cell, cohorts)
        print(
            f"{cell} | " + " | ".join(f"{rate:.1%}" for rate in rates.values()) + " |", flush=True
        )


def print_annotated(cohorts: int) -> None:
    """Print the table of prediction-powered means."""
    columns = "covered | bias | half-width | covered, alone | half-width, alone | p < 0.05"
    print(f"| annotated patients | {columns} |")
    print("|---" * 7 + "|")
    for annotated in (5, 10, 20, 40):
        cell = Cell((0.85,), 0.93, 0.1, 200, 300)
        powered, alone, rejected = score_annotated(cell, annotated, cohorts)
        print(
            f"| {annotated} | {powered.coverage:.1%} | {powered.bias:+.2%} "
            f"| {powered.half_width:.1%} | {alone.coverage:.1%} | {alone.half_width:.1%} "
            f"| {rejected:.1%} |"
        )

    print("\n| have the class | annotated | no interval | covered | covered, alone | p < 0.05 |")
    print("|---" * 6 + "|")
    for present, annotated in product((0.1, 0.3, 0.6, 1.0), (10, 20, 40)):
        powered, alone, none, rejected = score_rare(present, annotated, cohorts)
        print(
            f"| {present:.0%} | {annotated} | {none:.1%} | {powered.coverage:.1%} "
            f"| {alone.coverage:.1%} | {rejected:.1%} |"
        )


SHARES = np.array([0.4, 0.35, 0.15, 0.07, 0.03])
"""Mean true shares of five classes."""


def score_classes(
    slides: int, accuracy: float, groups: int, cohorts: int, seed: int = 0
) -> list[Score]:
    """Audit cohorts of five classes with 300 points; return a score for each class.

    Shares of classes and of confusions differ from slide to slide (Dirichlet), and the accuracy of
    each class, too (beta, correlation 0.1).
    """
    rng = np.random.default_rng(seed)
    scores = [Score() for _ in SHARES]
    for _ in range(cohorts):
        right = among(rng, np.full((slides, 5), accuracy), 0.1)
        area = rng.dirichlet(9 * SHARES, slides) * rng.lognormal(4, 0.7, (slides, 1))
        cells = np.zeros((slides, 5, 5))  # true, predicted
        for k in range(5):
            others = np.where(np.arange(5) == k, 1e-6, SHARES)
            wrong = rng.dirichlet(8 * others, slides) * (1 - right[:, [k]])
            cells[:, k] = area[:, [k]] * wrong
            cells[:, k, k] += area[:, k] * right[:, k]
        frame = AuditFrame(
            np.arange(slides), np.arange(slides) % groups, cells.sum(axis=1), np.ones(slides)
        )
        part = (frame.area_mm2, frame.groups, frame.probability)
        counts = allocate(*part, 300, int(rng.integers(2**31)))
        row, stratum = np.nonzero(counts)
        row, stratum = (np.repeat(x, counts[row, stratum]) for x in (row, stratum))
        chance = np.cumsum(cells[row, :, stratum], axis=1)
        answers = (rng.random((len(row), 1)) * chance[:, [-1]] > chance).sum(axis=1)
        weights = weights_mm2(*part, counts)[row, stratum]
        found = corrected_areas(frame, AuditSample(row, stratum, answers, weights))
        for k, score in enumerate(scores):
            score.add(found.classes[k].area_mm2, float(area[:, k].sum()))
    return scores


def print_classes(cohorts: int) -> None:
    """Print the table of five classes."""
    names = " | ".join(f"{share:.0%}: covered, bias, half-width" for share in SHARES)
    print(f"| slides | groups | accuracy | {names} |")
    print("|---" * 8 + "|")
    for slides, groups, accuracy in ((20, 1, 0.85), (40, 1, 0.7), (40, 3, 0.85), (20, 1, 0.95)):
        scores = score_classes(slides, accuracy, groups, cohorts)
        cells = (f"{s.coverage:.1%}, {s.bias:+.1%}, {s.half_width:.0%}" for s in scores)
        print(f"| {slides} | {groups} | {accuracy} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the tables of coverage, of comparisons and of annotated patients."""
    tables = {
        "areas": print_areas,
        "chosen": lambda cohorts: print_areas(cohorts, chosen_cells()),
        "extended": lambda cohorts: print_areas(cohorts, extended_cells()),
        "classes": print_classes,
        "groups": print_groups,
        "annotated": print_annotated,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=2000)
    parser.add_argument("--only", choices=tables)
    arguments = parser.parse_args()
    for name, table in tables.items():
        if arguments.only in (None, name):
            start = time.process_time()
            table(arguments.cohorts)
            print(f"\n{time.process_time() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()
