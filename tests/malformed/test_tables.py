"""Formulas in tables, tables that fill the memory, and odd names in pictures."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from malformed.refusals import refusal
from tiny_slides import picture, write_tiff

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.csv_cells import unescape_cell
from noctile.pipeline.manifest_cells import manifest_cells
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.parquet import read_parquet
from noctile.pipeline.report.gallery import draw_gallery, shrink_sample
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.split import Split, read_split, write_split
from noctile.workflows.commands.annotate import annotate

CLASSES = (ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),)


FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    " =1",
    "\t=1",
    "\uff1d1",
    "=HYPERLINK(0)",
]


class TestTables:
    def test_the_table_of_a_cohort_has_no_formulas(self, tmp_path: Path) -> None:
        rows = [
            SlideRow(f, Path("/@x"), "failed", f, f, f, f, f, extra=((f, f),)) for f in FORMULAS
        ]
        write_csv(cohort_table(rows, ["tumor"]), tmp_path / "slides.csv")
        with (tmp_path / "slides.csv").open(newline="") as file:
            cells = {cell for row in csv.reader(file) for cell in row}
        assert {unescape_cell(cell) for cell in cells} >= set(FORMULAS)
        assert not {cell for cell in cells if cell in FORMULAS}

    def test_a_split_with_formulas_in_names_is_read_back(self, tmp_path: Path) -> None:
        regions = [Region(f, f"p{f}", "=I", "@s", tmp_path, tmp_path) for f in FORMULAS]
        split = Split({r.region_id: "test" for r in regions}, {r.patient: "test" for r in regions})
        write_split(tmp_path / "split.csv", regions, split)
        with (tmp_path / "split.csv").open(newline="") as file:
            assert all(row["region_id"].startswith("'") for row in csv.DictReader(file))
        assert read_split(tmp_path / "split.csv") == split

    def test_the_table_of_annotated_slides_has_no_formulas(self, tmp_path: Path) -> None:
        write_tiff(tmp_path / "=1+1.tif", [picture(128, 128)], 0.25, 0.25)
        (tmp_path / "@a.tif").write_bytes(b"no slide")
        rows = annotate([tmp_path], tmp_path / "out")
        assert {row.slide_id for row in rows} == {"=1+1", "@a"}
        with (tmp_path / "out" / "annotated.csv").open(newline="") as file:
            assert {row["slide_id"] for row in csv.DictReader(file)} == {"'=1+1", "'@a"}

    @pytest.mark.parametrize(
        "title",
        ["a\nb", "<script>alert(1)</script>", "\U0001f600", "a" * 5000, "\x1b[2J", "$\\frac$", ""],
    )
    def test_the_gallery_accepts_any_name(self, title: str) -> None:
        pixels = LabelledPixels(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), 0.5)
        shown = shrink_sample(title, "50 % right", pixels, np.zeros((8, 8), np.uint8))
        assert draw_gallery([shown], CLASSES).startswith(b"\x89PNG")


def many(text: str, rows: int) -> pa.Array:
    """A column in which all rows share one text."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])


def long_list(cells: int) -> pa.Array:
    return pa.ListArray.from_arrays([0, cells], pa.array(np.zeros(cells, np.int8)))


BOMBS = {
    "rows": lambda: many("a", 2**22),
    "one text in all rows": lambda: many("m" * 2**20, 2**14),
    "one long text": lambda: pa.array(["m" * 2**28]),
    "one long list": lambda: long_list(2**27),
}


class TestParquet:
    @pytest.mark.parametrize("read", [read_parquet, manifest_cells])
    @pytest.mark.parametrize("column", BOMBS.values(), ids=BOMBS)
    def test_a_small_file_that_fills_the_memory_is_refused(
        self, tmp_path: Path, column: Callable[[], pa.Array], read: Callable[[Path], object]
    ) -> None:
        path, values = tmp_path / "slides.parquet", column()
        table = pa.table({"slide_id": many("a", len(values)), "note": values})
        pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**30)
        assert path.stat().st_size < 2**20
        assert "slides.parquet cannot be read" in refusal(read, path)

    @pytest.mark.parametrize("name", ["slides.parquet", "slides.csv"])
    def test_pipes_devices_and_sparse_files_are_refused(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        os.mkfifo(path)
        assert "It is a pipe or a device" in refusal(manifest_cells, path)
        path.unlink()
        path.symlink_to("/dev/zero")
        assert "It is a pipe or a device" in refusal(manifest_cells, path)
        path.unlink()
        with path.open("wb") as file:
            file.truncate(2**42)
        assert "It has more than" in refusal(manifest_cells, path)

    def test_a_csv_file_of_many_empty_cells_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "slides.csv"
        path.write_bytes(b"slide_id" + b"," * (2**26 + 1))
        assert "more than 67108864 cells" in refusal(manifest_cells, path)
