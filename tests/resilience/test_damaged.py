"""Real slides that are damaged, a thousand of them in one night: each ends alone, with a reason,
and none is lost."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from nightmare import Program, outcomes
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
"""What may become of a damaged slide beside being done: no crash, no hang, no memory, no defect."""


@pytest.mark.parametrize("number", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_damaged_real_slides_end_alone_with_a_reason_and_none_is_lost(
    shared_data: Path, tmp_path: Path, number: int
):
    originals = sorted(path for path in (shared_data / "slides").iterdir() if path.is_file())
    slides, rows = tmp_path / "slides", ["slide_id,path,mpp"]
    for k in range(number):
        original, data, _ = mutant(originals, k, seed=0)
        path = (
            slides / f"{k:04}" / original.name
        )  # a folder of its own: DICOM files in one are one slide
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        rows.append(
            f"m{k:04},{path},{0.5 if k % 2 else ''}"
        )  # with a pixel size more of them are read
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "run.toml").write_text(SETTINGS)
    (tmp_path / "temporary").mkdir()

    out, model = tmp_path / "out", threshold_model(tmp_path / "model")
    words = (
        "--manifest",
        tmp_path / "manifest.csv",
        "--out",
        out,
        "--model",
        model,
        "--config",
        tmp_path / "run.toml",
    )
    code, said = Program("noctile", "run", *words, temporary=tmp_path / "temporary").wait(1500)
    assert code == 1, said
    found = outcomes(out)
    assert found.keys() == {f"m{k:04}" for k in range(number)}
    ends = Counter(reason or status for status, reason in found.values())
    print(dict(ends))  # noqa: T201 - for benchmarks/RESULTS.md
    assert ends.keys() <= {"done", *REASONS}
    assert {"done", "unopenable"} <= ends.keys()
    code, said = Program("noctile", "verify", out, temporary=tmp_path / "temporary").wait(900)
    assert code == 0, said
    shutil.rmtree(slides)  # a gigabyte
