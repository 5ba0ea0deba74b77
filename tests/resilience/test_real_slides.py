"""Whole runs as users start them, on the samples, whose truth is known, and on real slides."""

import csv
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from noctile.pipeline.masks.store import MaskStore


def noctile(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noctile", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def samples(repo, tmp_path_factory) -> Path:
    """Results of the main command of the README."""
    out = tmp_path_factory.mktemp("samples") / "results"
    done = noctile("run", repo / "sample_slides", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def truth_mm2(repo) -> dict[str, dict[str, float]]:
    areas: dict[str, dict[str, float]] = defaultdict(dict)
    with (repo / "sample_slides" / "truth" / "areas.csv").open() as file:
        for row in csv.DictReader(file):
            areas[row["slide_id"]][row["class"]] = float(row["area_mm2"])
    return areas


@pytest.mark.timeout(600)
class TestSamples:
    def test_every_slide_is_done(self, samples, truth_mm2):
        rows = pq.read_table(samples / "slides.parquet").to_pylist()
        assert {row["slide_id"]: row["status"] for row in rows} == dict.fromkeys(truth_mm2, "done")

    def test_tumor_area_is_within_ten_percent_of_truth(self, samples, truth_mm2):
        rows = {
            row["slide_id"]: row for row in pq.read_table(samples / "slides.parquet").to_pylist()
        }
        for slide_id, areas in truth_mm2.items():
            assert rows[slide_id]["tumor_area_mm2"] == pytest.approx(
                areas["tumor"], rel=0.10, abs=1e-9
            ), slide_id

    def test_tumor_dice_is_at_least_90_percent_over_all_and_89_on_each(
        self, repo, samples, truth_mm2
    ):
        both, sizes = 0, 0
        for slide_id, areas in truth_mm2.items():
            if not areas["tumor"]:
                continue
            store = MaskStore.open(samples / "slides" / slide_id / "mask.ome.zarr")
            found = store.read(store.layout.frame.box) == 1
            truth = (
                np.asarray(Image.open(repo / "sample_slides" / "truth" / f"{slide_id}.png")) == 1
            )
            assert found.shape == truth.shape
            one, two = (
                np.count_nonzero(found & truth),
                np.count_nonzero(found) + np.count_nonzero(truth),
            )
            assert 2 * one / two >= 0.89, slide_id
            both, sizes = both + one, sizes + two
        assert 2 * both / sizes >= 0.90

    def test_pen_is_flagged_and_the_nearly_blank_slide_has_no_tissue(self, samples):
        flags = {
            row["slide_id"]: row["qc_flags"]
            for row in pq.read_table(samples / "slides.parquet").to_pylist()
        }
        assert "pen_marks" in flags["pen-marks"]
        assert "no_tissue" in flags["nearly-blank"]


REASONS = {
    "CMU-1-Small-Region": ("done", ""),
    "CMU-1-Small-Region.wrong-mpp": ("failed", "mpp_implausible"),
    "bfconvert-jpeg.ome": ("failed", "mpp_missing"),
    "camelyon-overview": ("failed", "mpp_implausible"),
    "fluorescence": ("done", ""),
    "unopenable": ("failed", "unopenable"),
    "unreadable": ("failed", "unreadable"),
}
"""Expected status and reason code of each real file."""


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run on all real files, and its results."""
    out = tmp_path_factory.mktemp("real") / "out"
    return noctile("run", shared_data / "slides", "--out", out), out


@pytest.mark.timeout(600)
class TestRealSlides:
    def test_a_run_with_failures_has_exit_code_1(self, real):
        assert real[0].returncode == 1, real[0].stdout + real[0].stderr

    def test_every_file_has_its_row_with_the_right_reason(self, real):
        rows = pq.read_table(real[1] / "slides.parquet").to_pylist()
        assert {r["slide_id"]: (r["status"], r["reason"] or "") for r in rows} == REASONS

    def test_the_reason_of_a_wrong_pixel_size_names_the_option(self, real):
        rows = {r["slide_id"]: r for r in pq.read_table(real[1] / "slides.parquet").to_pylist()}
        for slide_id in ("CMU-1-Small-Region.wrong-mpp", "bfconvert-jpeg.ome"):
            assert "--mpp" in rows[slide_id]["message"]

    def test_the_real_slide_has_tissue_and_a_preview(self, real):
        folder = real[1] / "slides" / "CMU-1-Small-Region"
        summary = json.loads((folder / "summary.json").read_text())
        # 2220 x 2967 px at 0.499 um are 1.64 mm2; by eye somewhat less than half of it is tissue
        assert 0.6 < summary["tissue_area_mm2"] < 0.8
        with Image.open(folder / "preview.jpg") as preview:
            assert preview.width > 600

    def test_the_fluorescence_slide_is_flagged_and_has_no_tumor(self, real):
        rows = {r["slide_id"]: r for r in pq.read_table(real[1] / "slides.parquet").to_pylist()}
        assert "not_h_and_e" in rows["fluorescence"]["qc_flags"]
        assert rows["fluorescence"]["tumor_area_mm2"] == 0

    def test_the_right_pixel_size_gives_the_areas_of_the_original(
        self, real, shared_data, tmp_path
    ):
        """The file is a converter's copy of the same pixels."""
        slide = shared_data / "slides" / "CMU-1-Small-Region.wrong-mpp.tiff"
        assert noctile("run", slide, "--out", tmp_path, "--mpp", "0.499").returncode == 0
        copy = pq.read_table(tmp_path / "slides.parquet").to_pylist()[0]
        rows = {r["slide_id"]: r for r in pq.read_table(real[1] / "slides.parquet").to_pylist()}
        assert copy["mpp_source"] == "user"
        assert copy["tissue_area_mm2"] == pytest.approx(
            rows["CMU-1-Small-Region"]["tissue_area_mm2"], rel=0.02
        )
