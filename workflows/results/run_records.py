"""Records of the runs of a folder of results, read for its report; a damaged one is left out."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.errors import StoreError
from noctile.workflows.results.files import read_json
from noctile.workflows.results.layout import ResultsFolder

if TYPE_CHECKING:
    from noctile.pipeline.report.report_page import RunFacts
    from noctile.pipeline.report.usage import RunUsage

_MOST = 10_000
"""Most samples that are read; a run writes 200."""


def run_facts(results: ResultsFolder) -> list["RunFacts"]:
    """Facts of each run, the last one first."""
    from noctile.pipeline.report.report_page import RunFacts  # noqa: PLC0415 - jinja2 is slow to load

    facts = []
    for record in _records(results):
        counts, model, machine = (_object(record.get(n)) for n in ("slides", "model", "machine"))
        start, end = (str(record.get(name) or "") for name in ("start", "end"))
        done, failed, skipped = (_count(counts.get(n)) for n in ("done", "failed", "skipped"))
        values = model.get("name"), record.get("device"), machine.get("host"), record.get("stopped")
        about = (str(value or "") for value in values)
        facts.append(RunFacts(start, end, done, failed, skipped, *about))
    return facts


def last_usage(results: ResultsFolder) -> "RunUsage | None":
    """Samples of the last run that predicted a tile; None without one."""
    usages = (_usage(record) for record in _records(results))
    return next((usage for usage in usages if usage), None)


def _usage(record: Mapping[str, Any]) -> "RunUsage | None":
    """Samples of a record; None if they are damaged, or too few, or without a tile."""
    from noctile.pipeline.report.usage import RunUsage  # noqa: PLC0415 - a page may not be wanted

    found, machine = _object(record.get("usage")), _object(record.get("machine"))
    names = ("seconds", "tiles", "gpu_busy", "cpu_seconds")
    seconds, tiles, gpu_busy, cpu_seconds = (_figures(found.get(name)) for name in names)
    n = len(seconds)
    if n < 2 or any(len(one) != n for one in (tiles, gpu_busy, cpu_seconds)):
        return None
    rises = seconds[0] > 0 and (np.diff(seconds) > 0).all() and (np.diff(tiles) >= 0).all()
    if not (rises and tiles[-1] > 0):
        return None
    texts = str(record.get("start") or ""), str(record.get("device") or "")
    cores = max(1, _count(machine.get("cores")))
    busy = np.clip(gpu_busy, 0, 1)
    return RunUsage(texts[0], seconds, tiles, busy, cpu_seconds, cores, texts[1])


def _records(results: ResultsFolder) -> Iterator[Mapping[str, Any]]:
    for path in sorted(results.runs.glob("*.json"), reverse=True):
        with suppress(StoreError):
            if record := _object(read_json(path)):
                yield record


def _figures(values: Any) -> Float64:
    """List of a record as float64 ``[n]``; NaN for what is no finite number."""
    listed = values[:_MOST] if isinstance(values, list) else []
    figures = [value if type(value) in (int, float) else np.nan for value in listed]
    return np.array([value if abs(value) < 1e15 else np.nan for value in figures], np.float64)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
