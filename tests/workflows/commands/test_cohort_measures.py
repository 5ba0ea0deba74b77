"""Spatial measures for a cohort: from the table, else from label maps, else with a reason."""

import numpy as np
import pytest
from label_results import CLASSES, write_result

from noctile.pipeline.patients.measures import MEASURES, measure_of
from noctile.workflows.commands.cohort_measures import add_measures, why_missing
from noctile.workflows.results.layout import ResultsFolder


def test_measures_of_earlier_results_are_computed(tmp_path):
    labels = np.full((96, 96), 2, np.uint8)
    labels[20:60, 20:60] = 1
    write_result(tmp_path, labels, "old", mpp=8.0, native_mpp=8.0)
    results = ResultsFolder(tmp_path)
    rows = [
        {"slide_id": "old", "status": "done", "tumor_stroma_ratio": None},
        {"slide_id": "gone", "status": "done"},
        {"slide_id": "new", "status": "done", "foci_area_mm2": 1.0, "tumor_stroma_ratio": 0.3},
        {"slide_id": "bad", "status": "failed"},
    ]
    found = add_measures(results, rows)
    assert found[0]["tumor_stroma_ratio"] is not None
    assert found[0]["foci_area_mm2"] == pytest.approx(40 * 40 * 64e-6, rel=0.1)
    assert found[1:] == rows[1:]
    assert results.measures("old").exists()


def test_reasons_come_from_the_first_slide(tmp_path):
    assert [info.name for info in CLASSES] == ["tumor", "stroma"]
    write_result(tmp_path, np.full((96, 96), 2, np.uint8), "s")
    rows = [{"slide_id": "s", "status": "done"}]
    found = why_missing(ResultsFolder(tmp_path), rows, MEASURES)
    assert "necrosis" in found["necrosis_fraction"]
    assert found["tumor_fraction_range"] == "no patient has two slides"
    nothing = why_missing(ResultsFolder(tmp_path / "x"), rows, [measure_of("necrosis_fraction")])
    assert nothing == {"necrosis_fraction": "no slide has it"}
