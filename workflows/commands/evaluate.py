"""Measure a model on regions whose classes are known: predict -> count -> figures -> report.

for each region     read it (one ahead, in a thread), predict its tiles, count, throw the pixels
away for the set         figures with intervals, calibration, groups, pictures, one page
"""

import csv
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from noctile.pipeline.csv_cells import escape_cell
from noctile.pipeline.errors import UsageError
from noctile.pipeline.metrics import (
    FEWEST_UNITS,
    LEVEL,
    METRICS,
    N_BINS,
    RESAMPLES,
    Estimate,
    Measurement,
    Metric,
    RegionScore,
    score_region,
)
from noctile.pipeline.models.card import ModelCard, Predictor
from noctile.pipeline.models.device import resolve_device
from noctile.pipeline.models.load import find_model, load_predictor, read_card
from noctile.pipeline.normalize import normalized, stain_amounts
from noctile.pipeline.report.gallery import MOST, Sample, draw_gallery, sample
from noctile.pipeline.report.page import Subject, evaluation_page, interval_words
from noctile.pipeline.report.plots import plot_confusion, plot_reliability
from noctile.pipeline.truth.find import DataSource, find_regions
from noctile.pipeline.truth.region import LabelledPixels, Region, load_region
from noctile.pipeline.truth.scheme import BUILT_IN, IGNORED, ClassScheme, load_scheme
from noctile.pipeline.truth.split import BCSS_TEST_INSTITUTES, Split, check_names, read_split
from noctile.workflows.results.layout import write_atomic, write_json

Choice = Literal["train", "val", "test", "all"]
Say = Callable[[str], None]

SPLIT, SCHEME = "split.csv", "scheme.toml"
"""In a model's folder: which regions trained it, and the classes that it was trained for."""

_UNKNOWN = (
    "Nothing in the model's folder says what it was trained on: it may have seen these regions"
)
_UNLISTED = "not listed"
_SEEN = {
    "train": "The model was trained on these regions",
    "val": "These regions chose the model's weights",
}
"""Notes on what is no test."""

_BATCH = 8
_SAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What an evaluation leaves behind.

    Attributes:
        folder: with metrics.json, the tables and pictures, and report.html.
        measurement: the counts and figures.
        metrics: what stands in metrics.json.
        notes: what a reader must know of this evaluation.
    """

    folder: Path
    measurement: Measurement
    metrics: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The regions that are measured.

    Attributes:
        regions: sorted by region_id.
        words: which they are.
        notes: what a reader must know of them.
    """

    regions: Sequence[Region]
    words: str
    notes: tuple[str, ...]


def evaluate(
    model: str | Path,
    data: Sequence[DataSource],
    out: Path,
    side: Choice = "test",
    classes: str | None = None,
    device: str = "auto",
    say: Say = lambda _: None,
) -> Evaluation:
    """Measure a model on one side of a data set and write the report.

    Args:
        model: name of an installed model, or a model folder.
        data: where the regions are.
        out: folder for the report, made where it is missing.
        side: of the model's own split; see `choose`.
        classes: class scheme of the data, where it is not the model's own; the codes of the model's
            classes are then read as codes of masks, so that several of them may be one class of the
            scheme.
        device: auto, cpu, cuda or cuda:N.
        say: takes each line of progress.

    Raises:
        UsageError: if model, classes, data or side do not go together; the message says why.
    """
    folder = find_model(model)
    card = read_card(folder)
    scheme, groups = _classes(folder, card, classes)
    chosen = choose(_regions(data), folder / SPLIT, side)
    _check_out(out)
    predict = load_predictor(folder, resolve_device(device))
    say(f"{card.name}, {chosen.words}")
    measurement, samples = _measure(chosen.regions, scheme, groups, predict, say)
    if not measurement.confusion.any():
        raise UsageError(
            f"not one pixel of the {len(chosen.regions)} regions has a class in scheme {scheme.name}; choose another "
            "scheme (--classes) or other data"
        )
    subject = Subject(card, scheme, chosen.words, chosen.notes)
    metrics = _metrics(subject, measurement)
    write_json(out / "metrics.json", metrics)
    _write_tables(out, measurement)
    _write_report(out, subject, measurement, samples)
    for line in [*chosen.notes, *_lines(measurement), interval_words(measurement, card.mpp)]:
        say(line)
    return Evaluation(out, measurement, metrics, chosen.notes)


def _measure(
    regions: Sequence[Region],
    scheme: ClassScheme,
    groups: Sequence[int],
    predict: Predictor,
    say: Say,
) -> tuple[Measurement, list[Sample]]:
    """Count region by region; of the pixels only the gallery's are kept."""
    few = len({region.patient for region in regions}) < FEWEST_UNITS
    load = partial(load_region, scheme=scheme, mpp=predict.card.mpp)
    scores: list[RegionScore] = []
    samples: list[Sample] = []
    began = said = time.monotonic()
    for region, pixels in _ahead(regions, load):
        seen = normalized(predict, stain_amounts([pixels.rgb]) if predict.card.stain else None)
        score, labels = score_region(region, pixels, seen, groups, len(scheme.classes), _BATCH)
        scores.append(score if few else replace(score, blocks=score.blocks[:0]))
        if len(samples) < MOST:
            right = np.trace(score.confusion) / max(1, score.confusion.sum())
            samples.append(sample(region.region_id, f"{100 * right:.1f} % right", pixels, labels))
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            left = (said - began) / len(scores) * (len(regions) - len(scores))
            say(f"{len(scores)} of {len(regions)} regions, about {left / 60:.1f} min left")
    return Measurement(scheme.classes, tuple(scores)), samples


def choose(regions: Sequence[Region], listed: Path, side: Choice) -> Chosen:
    """The regions of a side, as the split of the model's training has them.

    A region that the split does not list goes where its patient is. If the data are another data
    set than the model's (the split lists none of them, or there is none), ``test`` is all that is
    of no patient of the split; without a split and with regions of BCSS's official test institutes,
    it is those.

    Args:
        regions: of the data.
        listed: the model's split.csv; need not exist.
        side: train, val, test or all.

    Raises:
        UsageError: if no region is on the side, or one on the test side is of a patient that the
            model was trained on.
    """
    regions = sorted(regions, key=lambda region: region.region_id)
    split = read_split(listed) if listed.is_file() else Split({})
    sides: Counter[str] = Counter(split.side(region) or _UNLISTED for region in regions)
    notes: tuple[str, ...] = () if split.sides else (_UNKNOWN,)
    if side == "all":
        known = sides["train"] + sides["val"]
        seen = (
            (f"{known} of these regions trained the model or chose its weights: this is no test",)
            if known
            else ()
        )
        where = f"; in the model's own split: {_counts(sides)}" if split.sides else ""
        return Chosen(
            regions, f"all regions of the data: {_patients(regions)}{where}", notes + seen
        )
    chosen = split.select(regions, side)
    if (
        side == "test"
        and not chosen
        and split.sides.keys().isdisjoint(region.region_id for region in regions)
    ):
        words, chosen = _strangers(regions, split)
        sides[_UNLISTED] -= len(chosen)
    else:
        words = f"side {side} of the model's own split by patient"
    if not chosen:
        raise UsageError(
            f"no region is on side {side} of the model's split ({listed}): of {len(regions)} there are "
            f"{_counts(sides)}. Choose another --split, or data that the model has not seen: figures of regions that "
            "trained it say nothing of others"
        )
    if side == "test" and (
        leaks := [r for r in chosen if split.patients.get(r.patient, side) != side]
    ):
        raise UsageError(
            f"{leaks[0].region_id} is listed as test in {listed}, but it is of patient {leaks[0].patient}, whose other "
            f"regions are in {split.patients[leaks[0].patient]} ({len(leaks)} regions leak). Leave them out, or train "
            "again with a split by patient"
        )
    if split.sides and sides[_UNLISTED]:
        notes += (f"{sides[_UNLISTED]} regions that the model's split does not list are left out",)
    if side in _SEEN:
        notes += (_SEEN[side],)
    return Chosen(chosen, f"{words}: {_patients(chosen)}", notes)


def _strangers(regions: Sequence[Region], split: Split) -> tuple[str, list[Region]]:
    """What is the test side of a data set that the model's split knows nothing of."""
    official = [region for region in regions if region.institute in BCSS_TEST_INSTITUTES]
    if official and not split.sides:
        return "the official test institutes of BCSS", official
    return "all regions of patients whom the model's split does not list", [
        r for r in regions if not split.side(r)
    ]


def _patients(regions: Sequence[Region]) -> str:
    """How many there are, and from where."""
    sources, institutes = (
        sorted({getattr(r, name) for r in regions} - {""}) for name in ("source", "institute")
    )
    where = f" ({', '.join(institutes)})" if institutes else ""
    return f"{len(regions)} regions of {len({r.patient for r in regions})} patients in {', '.join(sources)}{where}"


def _counts(of: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(of.items()))


def _regions(sources: Sequence[DataSource]) -> list[Region]:
    regions = [region for source in sources for region in find_regions(source)]
    check_names(regions)
    return regions


def _classes(folder: Path, card: ModelCard, given: str | None) -> tuple[ClassScheme, list[int]]:
    """The truth's classes, and which of them each class of the model answers.

    Raises:
        UsageError: if nothing says what the truth's classes are, or the model's do not go with
            them.
    """
    named = str(card.training.get("scheme"))
    own = folder / SCHEME
    if given:
        scheme = load_scheme(given)
    elif own.is_file():
        scheme = load_scheme(str(own))
    elif named in BUILT_IN:
        scheme = BUILT_IN[named]
    else:
        raise UsageError(
            f"model '{card.name}' does not say how codes of masks become its classes: {folder} has no {SCHEME}, and "
            f"its card names no scheme of {', '.join(BUILT_IN)}. Say it with --classes"
        )
    if [info.code for info in card.classes] == [info.code for info in scheme.classes]:
        return scheme, list(range(len(scheme.classes)))
    groups = [scheme.sources.get(info.code, IGNORED) for info in card.classes]
    if lost := [
        info.name for info, group in zip(card.classes, groups, strict=True) if group == IGNORED
    ]:
        raise UsageError(
            f"class scheme {scheme.name} has no class for what model '{card.name}' calls {', '.join(lost)}; it has "
            f"{', '.join(info.name for info in scheme.classes)}. Give a scheme (--classes my.toml) in which the codes "
            "of all classes of the model stand in a from"
        )
    return scheme, groups


def _ahead(
    regions: Sequence[Region], load: Callable[[Region], LabelledPixels]
) -> Iterator[tuple[Region, LabelledPixels]]:
    """Regions with their pixels, the next one read while this one is used; no more than two are
    held.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, regions[0])
        for k, region in enumerate(regions):
            pixels = coming.result()
            if k + 1 < len(regions):
                coming = pool.submit(load, regions[k + 1])
            yield region, pixels


def _check_out(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {out} cannot be written: {error.strerror or error}; choose another folder"
        ) from error


def _write_tables(out: Path, measurement: Measurement) -> None:
    """The figures as CSV, for other programs."""
    tables = measurement.tables()
    names = [info.name for info in measurement.classes]
    matrix = zip(names, measurement.confusion.tolist(), strict=True)
    files: dict[str, list[dict[str, Any]]] = {
        "per_class": _per_class(measurement),
        "regions": tables["region"],
        "groups": [
            {"group": kind, **row}
            for kind in ("institute", "source")
            for row in tables.get(kind, [])
        ],
        "confusion": [
            dict(zip(["truth", *names], [name, *row], strict=True)) for name, row in matrix
        ],
    }
    for name, rows in files.items():
        write_atomic(out / f"{name}.csv", partial(_write_rows, rows=rows))


def _write_report(
    out: Path, subject: Subject, measurement: Measurement, samples: Sequence[Sample]
) -> None:
    """Pictures, and the page that holds them."""
    pictures = {
        "confusion": plot_confusion(measurement.confusion, measurement.classes),
        "reliability": plot_reliability(measurement.calibration),
        "gallery": draw_gallery(samples, measurement.classes),
    }
    for name, png in pictures.items():
        write_atomic(out / f"{name}.png", partial(Path.write_bytes, data=png))
    page = evaluation_page(subject, measurement, pictures)
    write_atomic(out / "report.html", partial(Path.write_text, data=page, encoding="utf-8"))


def _metrics(subject: Subject, measurement: Measurement) -> dict[str, Any]:
    """What stands in metrics.json: every figure with its interval, and what it was measured on."""
    card, own, tumor = subject.card, measurement.figures, measurement.tumor
    unit, drawn = measurement.units
    classes = {
        info.name: {"code": info.code, "role": info.role, "pixels": int(pixels)}
        | _values(partial(own.of_class, k=k))
        for k, (info, pixels) in enumerate(
            zip(measurement.classes, measurement.confusion.sum(axis=1), strict=True)
        )
    }
    return {
        "model": {"name": card.name, "sha256": card.sha256, "mpp": card.mpp},
        "scheme": subject.scheme.name,
        "split": subject.split,
        "notes": list(subject.notes),
        "regions": len(measurement.scores),
        "patients": len(measurement.patients),
        "pixels": int(measurement.confusion.sum()),
        "accuracy": _value(own.accuracy),
        "mean": _values(own.mean),
        "tumor": _values(partial(tumor.of_class, k=0)) if tumor else None,
        "classes": classes,
        "calibration": {"error": _number(measurement.calibration.ece), "bins": N_BINS},
        "intervals": {
            "level_percent": LEVEL,
            "method": "percentile bootstrap",
            "draws": RESAMPLES,
            "unit": unit,
            "units": len(drawn),
            "meaning": interval_words(measurement, card.mpp),
        },
    }


def _per_class(measurement: Measurement) -> list[dict[str, Any]]:
    rows = []
    pixels = measurement.confusion.sum(axis=1).tolist()
    for k, info in enumerate(measurement.classes):
        row: dict[str, Any] = {
            "class": info.name,
            "code": info.code,
            "role": info.role,
            "pixels": pixels[k],
        }
        for metric, value in _values(partial(measurement.figures.of_class, k=k)).items():
            row |= {
                metric: value["value"],
                f"{metric}_low": value["low"],
                f"{metric}_high": value["high"],
            }
        rows.append(row)
    return rows


def _values(of: Callable[[Metric], Estimate]) -> dict[str, dict[str, float | None]]:
    """All metrics, and F1 under its other name too."""
    values = {metric: _value(of(metric)) for metric in METRICS}
    return values | {"dice": values["f1"]}


def _value(estimate: Estimate) -> dict[str, float | None]:
    return {name: _number(value) for name, value in asdict(estimate).items()}


def _number(value: float) -> float | None:
    """Six digits; None where there is no figure."""
    return round(value, 6) if math.isfinite(value) else None


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table as CSV; cells are empty where there is no figure."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """What stands in a table: a rounded number, or text that is no formula."""
    return (
        _number(value)
        if isinstance(value, float)
        else escape_cell(value)
        if isinstance(value, str)
        else value
    )


def _lines(measurement: Measurement) -> Iterator[str]:
    """The figures as lines of text."""
    own, tumor = measurement.figures, measurement.tumor
    yield f"{'class':28}{'P':>7}{'R':>7}{'Dice':>7}   {LEVEL} % interval"
    for k, info in enumerate(measurement.classes):
        yield _line(f"{info.code:3} {info.name}", partial(own.of_class, k=k))
    yield _line("    mean of the classes", own.mean)
    if tumor:
        yield _line("    tumor against the rest", partial(tumor.of_class, k=0))
    ece = measurement.calibration.ece
    yield f"pixel accuracy {100 * own.accuracy.value:.1f} %, calibration error {100 * ece:.1f} %"


def _line(name: str, of: Callable[[Metric], Estimate]) -> str:
    precision, recall, dice = of("precision"), of("recall"), of("f1")
    if not math.isfinite(dice.value):
        return f"{name:28} not in the truth"
    interval = f"   {dice.low:.3f} to {dice.high:.3f}" if math.isfinite(dice.low) else ""
    return f"{name:28}{precision.value:7.3f}{recall.value:7.3f}{dice.value:7.3f}{interval}"
