"""Excel workbooks as manifests: types of cells, damaged and oversized files."""

import datetime
import io
import zipfile
from pathlib import Path

import openpyxl
import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides import workbook
from noctile.pipeline.slides.manifest import read_manifest
from noctile.pipeline.slides.table_file import MAX_COLUMNS
from noctile.pipeline.slides.workbook import read_first_sheet


def packed(*rows: list[object]) -> bytes:
    """A workbook whose second sheet is to be ignored."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("notes").append(["not a manifest"])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def read(content: bytes) -> list[list[str]]:
    return read_first_sheet("manifest m.xlsx", content, MAX_COLUMNS)


def test_cells_are_text_as_excel_shows_it() -> None:
    day = datetime.datetime(2026, 11, 29)
    cells = [3.0, 0.25, 7, True, None, " a ", day, day.replace(hour=6), datetime.time(6, 30), None]
    assert read(packed(["x"], cells, [])) == [
        ["x"],
        ["3", "0.25", "7", "TRUE", "", "a", "2026-11-29", "2026-11-29T06:00:00", "06:30:00"],
    ]


def test_a_workbook_is_a_manifest(tmp_path: Path) -> None:
    header = ["slide_id", "path", "patient_id", "mpp", "grade"]
    file = tmp_path / "cohort.xlsx"
    file.write_bytes(packed(header, [101, "a.svs", 7.0, 0.25, 3.0], [], ["S2", "b.svs"]))
    one, two = read_manifest(file)
    assert (one.slide_id, one.path, one.patient_id) == ("101", tmp_path / "a.svs", "7")
    assert (one.mpp, one.extra) == ((0.25, 0.25), (("grade", "3"),))
    assert two.location == f"manifest {file}, row 4"
    assert (two.patient_id, two.mpp, two.extra) == (None, None, (("grade", ""),))


def test_a_damaged_or_other_archive_is_an_error_with_a_cure() -> None:
    content, other = packed(["path"], ["a.svs"]), io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "no workbook")
    for bad in (content[:200], content[: len(content) // 2], other.getvalue()):
        with pytest.raises(UsageError, match=r"manifest m\.xlsx is no Excel workbook.*CSV UTF-8"):
            read(bad)


def test_a_workbook_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="1001 columns, more than 1000"):
        read(packed(["a"] * 1001))
    monkeypatch.setattr(workbook, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(UsageError, match="bytes when it is unpacked, more than 1000"):
        read(packed(["path"]))
