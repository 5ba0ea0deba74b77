"""Records of runs, also damaged ones, as the report reads them."""

import json

import numpy as np
import pytest

from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.run_records import last_usage, run_facts

USAGE = {
    "seconds": [2.0, 4.0],
    "gpu_busy": [0.5, None],
    "cpu_seconds": [1.0, 3.0],
    "slides_done": [0, 1],
    "tiles": [10, 40],
}


def _folder(tmp_path, *records) -> ResultsFolder:
    results = ResultsFolder(tmp_path)
    results.runs.mkdir(parents=True)
    for k, record in enumerate(records):
        (results.runs / f"{k}.json").write_text(json.dumps(record))
    return results


def test_the_last_run_comes_first_and_damaged_records_are_left_out(tmp_path):
    results = _folder(tmp_path, {"start": "one"}, {"start": "two", "slides": [3]}, [1])
    (results.runs / "9.json").write_text("{")
    assert [run.start for run in run_facts(results)] == ["two", "one"]


def test_samples_are_those_of_the_last_run_that_predicted(tmp_path):
    idle = USAGE | {"tiles": [0, 0]}
    record = {"start": "s", "device": "cuda", "machine": {"cores": 4}, "usage": USAGE}
    usage = last_usage(_folder(tmp_path, {"usage": USAGE}, record, {"usage": idle}))
    assert (usage.start, usage.device, usage.cores) == ("s", "cuda", 4)
    assert usage.tiles.tolist() == [10, 40]
    np.testing.assert_array_equal(usage.gpu_busy, [0.5, np.nan])


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": [2.0]},
        {"seconds": [2.0, 2.0]},
        {"seconds": [0, 2.0]},
        {"seconds": [2.0, 1e300]},
        {"tiles": [10, "40"]},
        {"tiles": [10, 9]},
        {"tiles": [True, True]},
        {"gpu_busy": None},
        {"cpu_seconds": {}},
    ],
)
def test_damaged_samples_are_none(tmp_path, wrong):
    assert last_usage(_folder(tmp_path, {"usage": USAGE})) is not None
    assert last_usage(_folder(tmp_path / "b", {"usage": USAGE | wrong})) is None
