"""Which DICOM files belong together: one slide is a series, one file in it a level."""

import struct
from dataclasses import dataclass
from pathlib import Path

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"

_HEADER_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # an element that is said to take more than there is
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises on headers that it cannot parse, beside its own InvalidDicomError."""


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What is needed of a file to group it.

    Attributes:
        series: SeriesInstanceUID.
        pixels: of the whole image: rows times columns of the total pixel matrix.
    """

    series: str
    pixels: int


def read_header(path: Path) -> DicomHeader | None:
    """The header of a DICOM file; None if the file is not DICOM or names no series.

    Raises:
        OSError: if the file cannot be read.
    """
    if not _is_dicom(path):
        return None
    import pydicom  # noqa: PLC0415 - takes 0.1 s, and only DICOM needs it

    tags = ["SeriesInstanceUID", "TotalPixelMatrixRows", "TotalPixelMatrixColumns"]
    try:
        if (
            pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
            == pydicom.uid.DeflatedExplicitVRLittleEndian
        ):
            return None  # pydicom would unpack all of it, whatever that comes to; no slide library reads such files
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        rows, columns = (
            found.get("TotalPixelMatrixRows") or 0,
            found.get("TotalPixelMatrixColumns") or 0,
        )
        series = found.get("SeriesInstanceUID")
        return DicomHeader(str(series), int(rows) * int(columns)) if series else None
    except (pydicom.errors.InvalidDicomError, *_HEADER_ERRORS):
        return None


def series_files(path: Path) -> list[Path]:
    """The files of the same series in the same folder, sorted, the file itself among them; [] if it
    is not DICOM.

    Raises:
        OSError: if a file cannot be read.
    """
    own = read_header(path)
    if own is None:
        return []
    others = ((other, read_header(other)) for other in path.parent.iterdir() if other.is_file())
    return sorted(other for other, header in others if header and header.series == own.series)


def _is_dicom(path: Path) -> bool:
    """Whether the magic word stands behind the preamble, as DICOM PS3.10, section 7.1 has it."""
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
