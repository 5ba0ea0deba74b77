"""Tables of users: CSV with any delimiter, workbooks, refusals that name the file."""

import openpyxl
import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.table_file import check_header, filled_row, read_table_file

ROWS = [["slide_id", "grade"], ["a", "2"], ["b"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_delimiter_is_found_and_cells_are_stripped(tmp_path, delimiter):
    lines = [delimiter.join(("slide_id", "grade")), f" a {delimiter}2", f"b{delimiter}"]
    (tmp_path / "t.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert read_table_file("clinical table", tmp_path / "t.csv") == ROWS


def test_a_workbook_reads_as_its_text(tmp_path):
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append([int(cell) if cell.isdigit() else cell for cell in row])
    book.save(tmp_path / "t.xlsx")
    assert read_table_file("clinical table", tmp_path / "t.xlsx") == ROWS


def test_files_that_are_no_tables_are_named(tmp_path):
    path = tmp_path / "t.csv"
    with pytest.raises(UsageError, match=r"clinical table .*t\.csv cannot be read"):
        read_table_file("clinical table", path)
    path.write_bytes(b"a\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_table_file("clinical table", path)
    path.write_text('a,b\n1,"2\n')
    with pytest.raises(UsageError, match="line 2"):
        read_table_file("clinical table", path)


def test_headers_and_rows_are_checked(tmp_path):
    assert check_header("t", tmp_path, ["Slide ID", "os-months"]) == ["slide_id", "os_months"]
    for header in (["a", "a"], ["a", ""], [str(k) for k in range(1001)]):
        with pytest.raises(UsageError, match="column"):
            check_header("t", tmp_path, header)
    assert filled_row("row 2", ["a"], 3) == ["a", "", ""]
    with pytest.raises(UsageError, match="row 2: 2 cells, but 1 columns"):
        filled_row("row 2", ["a", "b"], 1)
