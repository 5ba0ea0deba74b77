"""Rows of a manifest and the slides that they describe."""

from pathlib import Path

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.manifest import ManifestRow
from noctile.pipeline.slides.pairing import listed_slides, pair_rows


def row(number: int, slide_id: str | None = None, path: str | None = None) -> ManifestRow:
    where = f"manifest m.csv, row {number}"
    return ManifestRow(where, slide_id, path and Path(path), None, None, None, ())


def test_rows_with_paths_are_slides() -> None:
    rows = [row(2, "S1", "/a.svs"), row(3, None, "/b.svs")]
    assert listed_slides(rows) == [(Path("/a.svs"), rows[0]), (Path("/b.svs"), rows[1])]
    with pytest.raises(UsageError, match="row 4: no path"):
        listed_slides([row(4, "S1")])


@pytest.mark.parametrize("fit", [row(2, "HE", "/x/P1/HE.svs"), row(2, "P1_HE"), row(2, "CD", "")])
def test_a_row_fits_a_slide_by_path_name_or_id(fit: ManifestRow, tmp_path: Path) -> None:
    paths = [tmp_path / "P1" / "HE.svs", tmp_path / "P2" / "HE.svs", tmp_path / "CD.svs"]
    if fit.path and fit.path.is_absolute():
        fit = row(2, "HE", str(paths[0]))
        paths[0].parent.mkdir()
        paths[0].touch()
    pairs = pair_rows(paths, [fit], [], pytest.fail)
    assert [path for path, found in pairs if found] == [paths[2 if fit.slide_id == "CD" else 0]]


def test_many_rows_without_a_slide_are_one_line() -> None:
    lines: list[str] = []
    rows = [row(n, f"S{n}") for n in range(2, 20)]
    pairs = pair_rows([Path("/S3.svs")], rows, [Path("/S4.svs")], lines.append)
    assert pairs == [(Path("/S3.svs"), rows[1])]
    (line,) = lines
    assert line.startswith("manifest m.csv, row 2: among the slides of the call, S2 is not there.")
    assert line.endswith("without a slide in this call: 16 (S2, S5, S6, S7, S8, ...)")
