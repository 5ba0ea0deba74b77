"""After a power cut at any moment, the same command ends with the same results.

The writes of a run are recorded. States that a disk may be left in are made of them, and the
command is run again on each.
"""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from power_cut import Recording, record
from standins import small_slide, threshold_model

from noctile.cli import main
from noctile.workflows.commands.verify_slide import verify_slide
from noctile.workflows.results.layout import SlideFolder

OF_ONE_CALL = {"seconds", "run"}
"""Columns of the tables that differ from call to call."""

pytestmark = pytest.mark.timeout(3600)


def can_trace() -> bool:
    words = ["strace", "-o", os.devnull, "true"]
    return bool(shutil.which("strace")) and subprocess.run(words, check=False).returncode == 0


class Cuts:
    """A recorded run, and the check of a state after a power cut.

    Args:
        folder: folder for slides, model and results.
        replace: True for a run with another setting over finished results.
    """

    def __init__(self, folder: Path, *, replace: bool) -> None:
        (folder / "slides").mkdir()
        for seed, name in enumerate("ab"):
            small_slide(folder / "slides" / f"{name}.tif", seed=seed, height=900, width=1100)
        threshold_model(folder / "model")
        settings = 'engine = "serial"\nblock_px = 480\ndevice = "cpu"\nmin_free_disk_bytes = 0\n'
        (folder / "run.toml").write_text(settings)
        self.out, self._before = folder / "out", folder / "before"
        self._words = ["run", folder / "slides", "--out", self.out, "--model", folder / "model"]
        self._words += ["--config", folder / "run.toml"]
        if replace:
            self.heal()
            shutil.copytree(self.out, self._before)
            (folder / "run.toml").write_text(settings + "overlap_px = 0\nredo = true\n")
        words = [sys.executable, "-m", "noctile", *map(str, self._words)]
        before = self._before if replace else None
        self.recording: Recording = record(words, self.out, folder / "trace", before)
        self.expected = contents(self.out)
        assert len(self.expected) > 20

    def heal(self) -> str:
        """Run the command, and return its output."""
        result = CliRunner().invoke(main, list(map(str, self._words)))
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    def check(self, seed: int, n: int) -> None:
        """Cut the power at a moment, run the command again, and compare the results."""
        rng = random.Random(seed)
        first, last = self.recording.first, len(self.recording.changes)
        moment = first + round((last - first) * (seed % n + rng.random()) / n)
        shutil.rmtree(self.out)
        self.recording.after_cut(min(moment, last), rng, self.out)
        self.heal()
        found = contents(self.out)
        assert found.keys() == self.expected.keys()
        assert [name for name in found if found[name] != self.expected[name]] == []
        for path in (self.out / "slides").iterdir():
            assert verify_slide(SlideFolder(path), None).faults == ()
        assert not (self.out / ".staging").exists()


def contents(out: Path) -> dict[str, object]:
    """Return the files of every result and the table, without what differs from call to call."""
    table = pq.read_table(out / "slides.parquet")
    kept = [name for name in table.column_names if name not in OF_ONE_CALL]
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted((out / "slides").rglob("*"))
        if path.is_file() and path.name not in ("summary.json", "checksums.json")
    }
    return {**files, "table": table.select(kept).to_pylist()}


@pytest.fixture(scope="module", params=[False, True], ids=["new results", "results replaced"])
def cuts(request, tmp_path_factory) -> Cuts:
    if not can_trace():
        pytest.skip("strace is not there, or may not trace programs")
    return Cuts(tmp_path_factory.mktemp("cuts"), replace=request.param)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_command_heals_a_power_cut(cuts, seed):
    cuts.check(seed, 6)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12, 112))
def test_the_same_command_heals_a_power_cut_at_a_hundred_moments(cuts, seed):
    cuts.check(seed, 100)
