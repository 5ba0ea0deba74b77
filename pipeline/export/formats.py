"""Formats of exports by name. The code of a format is imported when it is first used."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noctile.pipeline.wrong_values import did_you_mean

if TYPE_CHECKING:
    from noctile.pipeline.export.source import ExportSource


@dataclass(frozen=True, slots=True)
class Format:
    """A file format for the result of one slide.

    Attributes:
        suffix: end of the name of each file.
        writer: module in `noctile.pipeline.export`, and the name of its function, which is called
            as ``write(source, path, **options)``.
        options: names of the options that the function takes.
        gzip_above_bytes: size above which a file is compressed by gzip and gets ``.gz`` behind its
            name (B); None for never.
        version: version of the files, raised when the same result gives other bytes; files of
            another version are made again.
    """

    suffix: str
    writer: str
    options: tuple[str, ...] = ()
    gzip_above_bytes: int | None = None
    version: int = 1

    def write(self, source: "ExportSource", path: Path, options: Mapping[str, Any]) -> None:
        """Write the result of a slide to a file.

        Args:
            source: result of the slide.
            path: path of the file, which does not exist.
            options: value of each option of this format that is not the default.

        Raises:
            StoreError: if the result cannot be read, or cannot be written in this format.
        """
        module, _, function = self.writer.partition(":")
        write = getattr(import_module(f"noctile.pipeline.export.{module}"), function)
        write(source, path, **options)


FORMATS: Mapping[str, Format] = {
    "geojson": Format(
        ".geojson",
        "geojson:write_geojson",
        ("classes", "simplify_um", "min_area_um2", "min_hole_um2"),
        gzip_above_bytes=32 * 2**20,
    ),
    "ome-tiff": Format(".ome.tif", "ome_tiff:write_ome_tiff"),
    "dicom-seg": Format(".dcm", "dicom_seg:write_dicom_seg", ("labelmap",)),
    "ozx": Format(".ozx", "ozx:write_ozx"),
}
"""Format of the result of a slide, by the name that users type."""

WORKBOOK = "xlsx"
"""Name of the format of one file for all slides: the table, as an Excel workbook."""


def check_format(name: str, *more: str) -> str:
    """Return the name of a format if there is such a format.

    Args:
        name: name of a format.
        more: names that are known besides `FORMATS`.

    Raises:
        ValueError: if there is none; the message names all formats.
    """
    known = (*FORMATS, *more)
    if name not in known:
        raise ValueError(f"must be formats among {', '.join(known)}{did_you_mean(name, known)}")
    return name
