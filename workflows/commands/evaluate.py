"""Measure a model on regions whose classes are known: predict -> count -> metrics -> report.

for each region     read it (the next one is read ahead, in a thread), predict its tiles, count
for the set         metrics with intervals, calibration, tables, pictures, one page
"""

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from noctile.pipeline.errors import UsageError
from noctile.pipeline.metrics.class_metrics import Metric
from noctile.pipeline.metrics.intervals import LEVEL_PERCENT
from noctile.pipeline.metrics.measurement import MIN_UNITS, Measurement
from noctile.pipeline.metrics.region_counts import RegionCounts, count_region
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.device import resolve_device
from noctile.pipeline.models.folder import find_model, read_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.predictor import Predictor
from noctile.pipeline.normalize import predictor_for_slide, stain_amounts
from noctile.pipeline.report.gallery import MAX_SAMPLES, Sample, draw_gallery, shrink_sample
from noctile.pipeline.report.page import Subject, describe_intervals, evaluation_page
from noctile.pipeline.report.plots import plot_confusion, plot_reliability
from noctile.pipeline.report.tables import csv_tables, metrics_json
from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.truth.find import DataSource, find_regions
from noctile.pipeline.truth.region import LabelledPixels, Region, load_region
from noctile.pipeline.truth.scheme import BUILT_IN, IGNORED, ClassScheme, load_scheme
from noctile.pipeline.truth.selection import SideChoice, choose_regions
from noctile.pipeline.truth.split import check_names
from noctile.workflows.results.files import write_atomic, write_json

Say = Callable[[str], None]
"""Function that takes one line of progress."""

SPLIT, SCHEME = "split.csv", "scheme.toml"
"""Files in a model's folder: the split of its training, and the classes that it was trained for."""

_BATCH = 8
_SAY_SECONDS = 10.0
"""Time between two lines of progress (s)."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        folder: folder with metrics.json, the tables and pictures, and report.html.
        measurement: the counts and metrics.
        metrics: content of metrics.json.
        notes: warnings for the reader of the report.
    """

    folder: Path
    measurement: Measurement
    metrics: Mapping[str, Any]
    notes: tuple[str, ...]


def evaluate(
    model: str | Path,
    data: Sequence[DataSource],
    out: Path,
    side: SideChoice = "test",
    classes: str | None = None,
    device: str = "auto",
    say: Say = lambda _: None,
) -> Evaluation:
    """Measure a model on one side of a data set and write the report.

    Args:
        model: name of an installed model, or a model folder.
        data: data sources with the regions.
        out: folder for the report; made if it is missing.
        side: side of the model's own split, see `choose_regions`.
        classes: class scheme of the data, if it is not the model's own. The codes of the model's
            classes are then read as codes of masks, so that several of them may be one class of the
            scheme.
        device: auto, cpu, cuda or cuda:N.
        say: takes each line of progress.

    Raises:
        UsageError: if model, classes, data or side do not fit together; the message says why.
    """
    folder = find_model(model)
    card = read_card(folder)
    scheme, groups = _scheme_and_groups(folder, card, classes)
    chosen = choose_regions(_find_all_regions(data), folder / SPLIT, side)
    _make_out(out)
    predict = load_predictor(folder, resolve_device(device))
    say(f"{card.name}, {chosen.description}")
    measurement, samples = _measure(chosen.regions, scheme, groups, predict, say)
    if not measurement.confusion.any():
        raise UsageError(
            f"not one pixel of the {len(chosen.regions)} regions has a class in scheme "
            f"{scheme.name}. Choose another scheme (--classes) or other data"
        )
    subject = Subject(card, scheme, chosen.description, chosen.notes)
    metrics = metrics_json(subject, measurement)
    write_json(out / "metrics.json", metrics)
    _write_tables(out, measurement)
    _write_report(out, subject, measurement, samples)
    for line in [*chosen.notes, *_lines(measurement), describe_intervals(measurement, card.mpp)]:
        say(line)
    return Evaluation(out, measurement, metrics, chosen.notes)


def _measure(
    regions: Sequence[Region],
    scheme: ClassScheme,
    groups: Sequence[int],
    predict: Predictor,
    say: Say,
) -> tuple[Measurement, list[Sample]]:
    """Count region by region; only the pixels of the gallery's samples stay in memory."""
    by_block = len({region.patient for region in regions}) < MIN_UNITS
    load = partial(load_region, scheme=scheme, mpp=predict.card.mpp)
    counted: list[RegionCounts] = []
    samples: list[Sample] = []
    began = said = time.monotonic()
    for region, pixels in _read_ahead(regions, load):
        predictor = predictor_for_slide(
            predict, stain_amounts([pixels.rgb]) if predict.card.stain else None
        )
        counts, labels = count_region(
            region, pixels, predictor, groups, len(scheme.classes), _BATCH
        )
        counted.append(counts if by_block else replace(counts, blocks=counts.blocks[:0]))
        if len(samples) < MAX_SAMPLES:
            right = np.trace(counts.confusion) / max(1, counts.confusion.sum())
            note = f"{100 * right:.1f} % right"
            samples.append(shrink_sample(region.region_id, note, pixels, labels))
        if time.monotonic() - said > _SAY_SECONDS:
            said = time.monotonic()
            left = (said - began) / len(counted) * (len(regions) - len(counted))
            say(f"{len(counted)} of {len(regions)} regions, about {left / 60:.1f} min left")
    return Measurement(scheme.classes, tuple(counted)), samples


def _find_all_regions(sources: Sequence[DataSource]) -> list[Region]:
    """Regions of all sources, each with a name of its own."""
    regions = [region for source in sources for region in find_regions(source)]
    check_names(regions)
    return regions


def _scheme_and_groups(
    folder: Path, card: ModelCard, given: str | None
) -> tuple[ClassScheme, list[int]]:
    """Class scheme of the truth, and the class of the truth for each class of the model.

    Raises:
        UsageError: if the truth's classes are not known, or the model's classes do not fit them.
    """
    scheme = _truth_scheme(folder, card, given)
    if [info.code for info in card.classes] == [info.code for info in scheme.classes]:
        return scheme, list(range(len(scheme.classes)))
    groups = [scheme.sources.get(info.code, IGNORED) for info in card.classes]
    if lost := [
        info.name for info, group in zip(card.classes, groups, strict=True) if group == IGNORED
    ]:
        raise UsageError(
            f"class scheme {scheme.name} has no class for {', '.join(lost)} of model "
            f"'{card.name}'; it has {', '.join(info.name for info in scheme.classes)}. Give a "
            "scheme (--classes my.toml) whose 'from' lists hold the codes of all classes of the "
            "model"
        )
    return scheme, groups


def _truth_scheme(folder: Path, card: ModelCard, given: str | None) -> ClassScheme:
    """Class scheme of the truth: the given one, the model's own, or the one that its card names."""
    if given:
        return load_scheme(given)
    own = folder / SCHEME
    if own.is_file():
        return load_scheme(str(own))
    named = str(card.training.get("scheme"))
    if named in BUILT_IN:
        return BUILT_IN[named]
    raise UsageError(
        f"model '{card.name}' does not say how codes of masks become its classes: {folder} has no "
        f"{SCHEME}, and its card names no scheme of {', '.join(BUILT_IN)}. Give one with --classes"
    )


def _read_ahead(
    regions: Sequence[Region], load: Callable[[Region], LabelledPixels]
) -> Iterator[tuple[Region, LabelledPixels]]:
    """Regions with their pixels; the next region is read while this one is used.

    Memory holds at most two regions.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, regions[0])
        for k, region in enumerate(regions):
            pixels = coming.result()
            if k + 1 < len(regions):
                coming = pool.submit(load, regions[k + 1])
            yield region, pixels


def _make_out(out: Path) -> None:
    """Make the folder for the report."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {out} cannot be written: {error.strerror or error}. Choose another folder"
        ) from error


def _write_tables(out: Path, measurement: Measurement) -> None:
    """Write the metrics as CSV, for other programs."""
    for name, rows in csv_tables(measurement).items():
        write_atomic(out / f"{name}.csv", partial(_write_rows, rows=rows))


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV; a cell without a figure is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_report(
    out: Path, subject: Subject, measurement: Measurement, samples: Sequence[Sample]
) -> None:
    """Write the pictures, and the page that holds them."""
    pictures = {
        "confusion": plot_confusion(measurement.confusion, measurement.classes),
        "reliability": plot_reliability(measurement.calibration),
        "gallery": draw_gallery(samples, measurement.classes),
    }
    for name, png in pictures.items():
        write_atomic(out / f"{name}.png", partial(Path.write_bytes, data=png))
    page = evaluation_page(subject, measurement, pictures)
    write_atomic(out / "report.html", partial(Path.write_text, data=page, encoding="utf-8"))


def _lines(measurement: Measurement) -> Iterator[str]:
    """The metrics as lines of text."""
    own, tumor = measurement.estimates, measurement.tumor
    yield f"{'class':28}{'P':>7}{'R':>7}{'Dice':>7}   {LEVEL_PERCENT} % interval"
    for k, info in enumerate(measurement.classes):
        yield _line(f"{info.code:3} {info.name}", partial(own.of_class, k=k))
    yield _line("    mean of the classes", own.mean)
    if tumor:
        yield _line("    tumor against the rest", partial(tumor.of_class, k=0))
    ece = measurement.calibration.ece
    yield f"pixel accuracy {100 * own.accuracy.value:.1f} %, calibration error {100 * ece:.1f} %"


def _line(name: str, estimate: Callable[[Metric], Estimate]) -> str:
    """One line of metrics: precision, recall, and Dice with its interval."""
    precision, recall, dice = estimate("precision"), estimate("recall"), estimate("f1")
    if not math.isfinite(dice.value):
        return f"{name:28} not in the truth"
    interval = f"   {dice.low:.3f} to {dice.high:.3f}" if math.isfinite(dice.low) else ""
    return f"{name:28}{precision.value:7.3f}{recall.value:7.3f}{dice.value:7.3f}{interval}"
