"""Spatial measures of finished slides, from summaries, from the cache, or computed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_results import write_result

from noctile.pipeline.errors import StoreError
from noctile.pipeline.spatial import compute
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.measures import measures_of


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    """One slide: a tumor of 0.8 mm in stroma."""
    labels = np.full((192, 384), 2, np.uint8)
    labels[:, :100] = 1
    write_result(tmp_path, labels, mpp=8.0, native_mpp=4.0)
    return ResultsFolder(tmp_path)


def summary_of(results: ResultsFolder) -> dict:
    return json.loads(results.slide("s").summary.read_text())


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """One entry for each time that measures are computed."""
    calls: list[int] = []
    real = compute.measure_space

    def counted(*arguments):
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(compute, "measure_space", counted)
    return calls


def test_measures_are_computed_once_and_cached(results, computed):
    summary = summary_of(results)
    summary.pop("measures", None)
    first = measures_of(results, "s", summary)
    assert first.border_stroma_mm2 == pytest.approx(192 * 62 * 64e-6)
    assert measures_of(results, "s", summary) == first
    assert len(computed) == 1


def test_measures_of_a_summary_are_taken_from_it(results, computed):
    summary = summary_of(results)
    summary.pop("measures", None)
    first = replace(measures_of(results, "s", summary), tumor_stroma_ratio=0.25)
    stored = json.loads(json.dumps(first.to_json()))
    assert measures_of(results, "s", summary | {"measures": stored}) == first
    assert len(computed) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda measures: measures | {"version": 0},
        lambda measures: measures | {"tumor_stroma_ratio": "high"},
        lambda measures: {k: v for k, v in measures.items() if k != "bed_mm2"},
        lambda measures: [],
    ],
)
def test_measures_of_another_version_or_damaged_ones_are_made_again(results, computed, damage):
    summary = summary_of(results)
    summary.pop("measures", None)
    first = measures_of(results, "s", summary)
    path = results.measures("s")
    cached = json.loads(path.read_text())
    path.write_text(json.dumps(cached | {"measures": damage(cached["measures"])}))
    stored = summary | {"measures": damage(first.to_json())}
    assert measures_of(results, "s", stored) == first
    assert len(computed) == 2
    assert measures_of(results, "s", stored) == first
    assert len(computed) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": null}'])
def test_a_torn_cache_is_made_again(results, computed, content):
    summary = summary_of(results)
    summary.pop("measures", None)
    first = measures_of(results, "s", summary)
    results.measures("s").write_text(content)
    assert measures_of(results, "s", summary) == first
    assert len(computed) == 2


def test_a_cache_of_another_result_does_not_count(results, computed):
    summary = summary_of(results)
    summary.pop("measures", None)
    measures_of(results, "s", summary)
    measures_of(results, "s", summary | {"key": "another"})
    assert len(computed) == 2


def test_a_cache_that_cannot_be_written_is_no_fault(results, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    results.measures("s").parent.symlink_to(elsewhere)
    summary = summary_of(results)
    summary.pop("measures", None)
    assert measures_of(results, "s", summary).foci_area_mm2 > 0
    assert list(elsewhere.iterdir()) == []


def test_a_summary_that_lacks_a_class_is_refused(results):
    summary = summary_of(results) | {"class_area_mm2": {"tumor": 1.0}}
    summary.pop("measures", None)
    with pytest.raises(StoreError, match=r"has the classes stroma, which its summary\.json lacks"):
        measures_of(results, "s", summary)
