"""Headers of DICOM files, by which files are grouped: a slide is a series, a level is a file."""

import struct
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.untrusted import open_regular

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"

_TAGS = ["SeriesInstanceUID", "TotalPixelMatrixRows", "TotalPixelMatrixColumns"]

HEADER_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # an element that claims more bytes than there are
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""Exceptions of pydicom for headers that it cannot parse, beside its own InvalidDicomError."""


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """Header fields by which a DICOM file is grouped.

    Attributes:
        series: SeriesInstanceUID.
        pixel_count: rows times columns of the whole image (px).
    """

    series: str
    pixel_count: int


def header_or_none(path: Path) -> DicomHeader | None:
    """Read what `read_header` reads; None also for a file that cannot be read."""
    try:
        return read_header(path)
    except OSError:
        return None


def read_header(path: Path) -> DicomHeader | None:
    """Read the header of a DICOM file; None if the file is not DICOM or names no series.

    Raises:
        OSError: if the file cannot be read.
    """
    if not _is_dicom(path):
        return None
    import pydicom  # noqa: PLC0415 - takes 0.1 s, and only DICOM needs it

    try:
        syntax = pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
        if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
            return None  # pydicom would unpack all of it, and no slide library reads such files
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        series, rows, columns = (found.get(tag) for tag in _TAGS)
        return DicomHeader(str(series), int(rows or 0) * int(columns or 0)) if series else None
    except (pydicom.errors.InvalidDicomError, *HEADER_ERRORS):
        return None


def series_files(path: Path) -> list[Path]:
    """List the files of the same series in the same folder, sorted, the file itself included.

    The list is empty if the file is not DICOM.

    Raises:
        OSError: if a file cannot be read.
    """
    own = read_header(path)
    if own is None:
        return []
    others = ((other, read_header(other)) for other in path.parent.iterdir() if other.is_file())
    return sorted(other for other, header in others if header and header.series == own.series)


def _is_dicom(path: Path) -> bool:
    """Test for the magic word behind the preamble (DICOM PS3.10, section 7.1)."""
    with open_regular(path) as file:
        return file.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
