"""Manifest: a table that names slides and states facts, such as patients and pixel sizes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.names import fold_name, path_problem, slide_id_problem
from noctile.pipeline.slides.table_file import check_header, filled_row, read_table_file

ALIASES = {
    "slide_id": ("slide_id", "sample_id", "slide"),
    "path": ("path", "image_path", "wsi", "wsi_path", "slide_path", "filepath", "filename", "file"),
    "patient_id": ("patient_id", "patient", "case_id"),
    "mpp": ("mpp", "wsi_mpp", "spacing_at_level_0", "spacing"),
    "mpp_y": ("mpp_y",),
    "mpp_x": ("mpp_x",),
    "group": ("group",),
    "channel_order": ("channel_order",),
    "roi": ("roi", "roi_path"),
    "tissue_mask": ("tissue_mask", "tissue_mask_path", "mask_path"),
}
"""Accepted headers of each column, best first. (from hs2p, TRIDENT, AtlasPatch, CLAM, Slideflow,
CellViT-Inference)"""


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One slide of a manifest; an empty cell is None.

    Attributes:
        location: file and row of the slide, for messages; the header is row 1.
        slide_id: safe folder name, or None.
        path: absolute path of the slide, which may not exist, or None.
        patient_id: name of the patient, or None.
        mpp: size of a level-0 pixel (um; y, x), or None.
        group: name of a group, freely chosen, or None.
        extra: header and cell of each other column.
        bgr: True if the file stores its channels in BGR order, False if in RGB order, or None.
        roi: absolute path of a GeoJSON file with regions of interest, or None.
        tissue_mask: absolute path of a tissue mask, or None.
    """

    location: str
    slide_id: str | None
    path: Path | None
    patient_id: str | None
    mpp: tuple[float, float] | None
    group: str | None
    extra: tuple[tuple[str, str], ...]
    bgr: bool | None = None
    roi: Path | None = None
    tissue_mask: Path | None = None

    @property
    def name(self) -> str:
        """Name of the slide in messages."""
        return self.slide_id or str(self.path)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a manifest.

    Attributes:
        name: its key in `ALIASES`, or "" for an unknown column.
        header: header as the manifest has it.
    """

    name: str
    header: str


def read_manifest(file: Path) -> list[ManifestRow]:
    """Read the rows of a manifest.

    A manifest is UTF-8 text with a header, or the first sheet of an Excel workbook. Commas,
    semicolons or tabs separate the columns of a text. Each row has a slide_id or a path. Paths are
    relative to the manifest's folder.

    Raises:
        UsageError: if the file cannot be read, a row cannot be used or two rows have the same
            slide_id.
    """
    rows = list(_rows(file, read_table_file("manifest", file)))
    _check_unique(file, rows)
    return rows


def _rows(file: Path, table: list[list[str]]) -> Iterator[ManifestRow]:
    columns = _columns(file, table[0] if table else [])
    for number, cells in enumerate(table[1:], start=2):
        if not cells:
            continue
        location = f"manifest {file}, row {number}"
        filled = filled_row(location, cells, len(columns))
        pairs = list(zip(columns, filled, strict=True))
        known = {column.name: cell for column, cell in pairs if column.name}
        extra = tuple((column.header, cell) for column, cell in pairs if not column.name)
        yield _row(file, location, known, extra)


def _columns(file: Path, header: list[str]) -> list[_Column]:
    folded = check_header("manifest", file, header)
    chosen = {}
    for name, aliases in ALIASES.items():
        present = [alias for alias in aliases if alias in folded]
        if present:
            chosen[folded.index(present[0])] = name
    if not {"slide_id", "path"} & set(chosen.values()):
        raise UsageError(
            f"manifest {file}: no column slide_id or path in its header {header!s:.500}. Add one"
        )
    return [_Column(chosen.get(column, ""), name) for column, name in enumerate(header)]


def _row(
    file: Path, location: str, known: dict[str, str], extra: tuple[tuple[str, str], ...]
) -> ManifestRow:
    slide_id, path = known.get("slide_id") or None, known.get("path") or None
    if "path" in known and not path:
        _refuse(location, "the path is empty; fill it in, or remove the row")
    if not slide_id and not path:
        _refuse(location, "the slide_id is empty; fill it in, or remove the row")
    if slide_id and (reason := slide_id_problem(slide_id)):
        _refuse(location, f"slide_id {slide_id!r:.200} cannot name a folder: {reason}; change it")
    return ManifestRow(
        location,
        slide_id,
        _path(location, file, path),
        known.get("patient_id") or None,
        _mpp(location, known),
        known.get("group") or None,
        extra,
        _bgr(location, known.get("channel_order", "")),
        _path(location, file, known.get("roi")),
        _path(location, file, known.get("tissue_mask")),
    )


def _path(location: str, file: Path, path: str | None) -> Path | None:
    """Absolute path of a cell; None if it is empty."""
    if not path:
        return None
    if reason := path_problem(path):
        _refuse(location, f"the path {path!a:.200} {reason}")
    try:
        return file.absolute().parent / Path(path).expanduser()
    except RuntimeError as error:  # ~ of an unknown user
        raise UsageError(f"{location}: the path {path!r:.200}: {error}") from error


def _mpp(location: str, known: dict[str, str]) -> tuple[float, float] | None:
    """Size of a pixel (um; y, x): mpp_y and mpp_x, or mpp for an empty one of them."""
    both = known.get("mpp", "")
    sides = [known.get(name) or both for name in ("mpp_y", "mpp_x")]
    if not any(sides):
        return None
    if not all(sides):
        _refuse(location, "mpp_y and mpp_x must both have a value, or mpp must have one")
    y, x = (_positive(location, side) for side in sides)
    return y, x


def _positive(location: str, cell: str) -> float:
    try:
        number = float(cell.replace(",", "."))  # 0,25 in spreadsheets that use semicolons
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        _refuse(location, f"mpp {cell!r:.80} is not a positive number (um per pixel)")
    return number


def _bgr(location: str, cell: str) -> bool | None:
    """Tell if a cell states BGR order; None if it is empty."""
    order = cell.casefold()
    if order not in ("", "rgb", "bgr"):
        _refuse(location, f"channel_order {cell!r:.80} is neither rgb nor bgr")
    return order == "bgr" if order else None


def _check_unique(file: Path, rows: list[ManifestRow]) -> None:
    if not rows:
        raise UsageError(f"manifest {file} has no rows; add one for each slide")
    seen: dict[str, ManifestRow] = {}
    for row in rows:
        if row.slide_id and (other := seen.setdefault(fold_name(row.slide_id), row)) is not row:
            _refuse(
                row.location,
                f"slide_id {row.slide_id!r} was used before ({other.location}). Upper and lower "
                "case do not count; change one of them",
            )


def _refuse(location: str, problem: str) -> Never:
    raise UsageError(f"{location}: {problem}")
