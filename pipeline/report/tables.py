"""Figures of an evaluation as plain values: the content of metrics.json and of the CSV tables."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from noctile.pipeline.csv_cells import escape_cell
from noctile.pipeline.metrics.calibration import N_BINS
from noctile.pipeline.metrics.class_metrics import METRICS, Metric
from noctile.pipeline.metrics.intervals import LEVEL_PERCENT, RESAMPLES
from noctile.pipeline.metrics.measurement import Measurement
from noctile.pipeline.report.page import Subject, describe_intervals
from noctile.pipeline.statistics.estimate import Estimate

Row = dict[str, Any]


def metrics_json(subject: Subject, measurement: Measurement) -> dict[str, Any]:
    """Content of metrics.json: every figure with its interval, and the data behind it."""
    card, own, tumor = subject.card, measurement.estimates, measurement.tumor
    return {
        "model": {"name": card.name, "sha256": card.sha256, "mpp": card.mpp},
        "scheme": subject.scheme.name,
        "split": subject.split,
        "notes": list(subject.notes),
        "regions": len(measurement.regions),
        "patients": len(measurement.patients),
        "pixels": int(measurement.confusion.sum()),
        "accuracy": _interval_values(own.accuracy),
        "mean": _metric_values(own.mean),
        "tumor": _metric_values(partial(tumor.of_class, k=0)) if tumor else None,
        "classes": _class_values(measurement),
        "calibration": {"error": _round(measurement.calibration.ece), "bins": N_BINS},
        "intervals": {
            "level_percent": LEVEL_PERCENT,
            "method": "percentile bootstrap",
            "draws": RESAMPLES,
            "unit": measurement.units[0],
            "units": len(measurement.units[1]),
            "meaning": describe_intervals(measurement, card.mpp),
        },
    }


def csv_tables(measurement: Measurement) -> dict[str, list[Row]]:
    """Rows of the tables per_class, regions, groups and confusion, with cells ready for CSV."""
    tables = measurement.tables()
    groups = [
        {"group": kind, **row} for kind in ("institute", "source") for row in tables.get(kind, [])
    ]
    rows = {
        "per_class": _class_rows(measurement),
        "regions": tables["region"],
        "groups": groups,
        "confusion": _confusion_rows(measurement),
    }
    return {name: [_cells(row) for row in table] for name, table in rows.items()}


def _class_values(measurement: Measurement) -> dict[str, Row]:
    """Code, role, pixels and metrics of each class, by its name."""
    pixels = measurement.confusion.sum(axis=1)
    return {
        info.name: {"code": info.code, "role": info.role, "pixels": int(pixels[k])}
        | _metric_values(partial(measurement.estimates.of_class, k=k))
        for k, info in enumerate(measurement.classes)
    }


def _class_rows(measurement: Measurement) -> list[Row]:
    """A row for each class: pixels, and each metric with both ends of its interval."""
    rows = []
    pixels = measurement.confusion.sum(axis=1).tolist()
    for k, info in enumerate(measurement.classes):
        row: Row = {"class": info.name, "code": info.code, "role": info.role, "pixels": pixels[k]}
        values = _metric_values(partial(measurement.estimates.of_class, k=k))
        for metric, value in values.items():
            row |= {
                metric: value["value"],
                f"{metric}_low": value["low"],
                f"{metric}_high": value["high"],
            }
        rows.append(row)
    return rows


def _confusion_rows(measurement: Measurement) -> list[Row]:
    """The confusion matrix with a row for each true class."""
    names = [info.name for info in measurement.classes]
    matrix = zip(names, measurement.confusion.tolist(), strict=True)
    return [dict(zip(["truth", *names], [name, *row], strict=True)) for name, row in matrix]


def _metric_values(estimate: Callable[[Metric], Estimate]) -> dict[str, dict[str, float | None]]:
    """All metrics with their intervals, and F1 once more under the name "dice"."""
    values = {metric: _interval_values(estimate(metric)) for metric in METRICS}
    return values | {"dice": values["f1"]}


def _interval_values(estimate: Estimate) -> dict[str, float | None]:
    return {name: _round(value) for name, value in asdict(estimate).items()}


def _round(value: float) -> float | None:
    """The value with six digits, or None if there is no figure."""
    return round(value, 6) if math.isfinite(value) else None


def _cells(row: Mapping[str, Any]) -> Row:
    return {name: _cell(value) for name, value in row.items()}


def _cell(value: Any) -> Any:
    """Content of a cell: a rounded number, or text that no program reads as a formula."""
    if isinstance(value, float):
        return _round(value)
    return escape_cell(value) if isinstance(value, str) else value
