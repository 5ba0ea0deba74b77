"""Damaged real slides, up to a thousand in one run: each ends with its own outcome."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from run_programs import Program, outcomes
from standins import threshold_model

from benchmarks.mutants import mutant

pytestmark = pytest.mark.timeout(1800)

SETTINGS = """
engine = "dask"
workers = 2
device = "cpu"
min_free_disk_bytes = 0
slide_timeout_s = "60s"
max_memory_bytes = "2G"
"""

REASONS = {"unopenable", "unreadable", "unreadable_tissue", "mpp_missing", "mpp_implausible"}
"""Possible reason codes of a damaged slide: no crash, no hang, no memory, no defect."""


@pytest.mark.parametrize("number", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_each_damaged_slide_is_done_or_fails_with_a_documented_reason(
    shared_data: Path, tmp_path: Path, number: int
):
    originals = sorted(path for path in (shared_data / "slides").iterdir() if path.is_file())
    slides, rows = tmp_path / "slides", ["slide_id,path,mpp"]
    for k in range(number):
        original, data, _ = mutant(originals, k, seed=0)
        # each in a folder of its own: DICOM files in one folder are one slide
        path = slides / f"{k:04}" / original.name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        rows.append(f"m{k:04},{path},{0.5 if k % 2 else ''}")  # a pixel size lets more be read
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "run.toml").write_text(SETTINGS)
    (tmp_path / "temporary").mkdir()

    out, model = tmp_path / "out", threshold_model(tmp_path / "model")
    options = ("--manifest", tmp_path / "manifest.csv", "--out", out, "--model", model)
    options += ("--config", tmp_path / "run.toml")
    code, output = Program("noctile", "run", *options, temporary=tmp_path / "temporary").wait(1500)
    assert code == 1, output
    found = outcomes(out)
    assert found.keys() == {f"m{k:04}" for k in range(number)}
    ends = Counter(reason or status for status, reason in found.values())
    print(dict(ends))  # noqa: T201 - for benchmarks/history/resilience.md
    assert ends.keys() <= {"done", *REASONS}
    assert {"done", "unopenable"} <= ends.keys()
    code, output = Program("noctile", "verify", out, temporary=tmp_path / "temporary").wait(900)
    assert code == 0, output
    shutil.rmtree(slides)  # a gigabyte
