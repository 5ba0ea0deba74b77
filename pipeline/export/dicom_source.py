"""Header of the DICOM image that a segmentation refers to: that of the slide, or a made one."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.geometry import Frame
from noctile.pipeline.slides.dicom import HEADER_ERRORS, series_files
from noctile.pipeline.untrusted import printable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NAMESPACE = UUID("5c4f6f0c-7b0e-5e0f-9d53-0f5a2a6d5a10")
"""Namespace of the identifiers that are derived from contents."""

_VL_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"

_COPIED = (
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "ImageOrientationSlide",
    "TotalPixelMatrixOriginSequence",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "ContainerIdentifier",
    "IssuerOfTheContainerIdentifierSequence",
    "ContainerTypeCodeSequence",
    "SpecimenDescriptionSequence",
)
"""Elements that are taken from the slide where it has them."""

_REQUIRED_OF_SPECIMENS = ("IssuerOfTheSpecimenIdentifierSequence", "SpecimenPreparationSequence")
"""Elements that each specimen must have, empty if nothing is known. Slides may lack them."""


def derived_uid(*parts: str) -> str:
    """Make a DICOM UID from texts: the same texts make the same UID (PS3.5, B.2)."""
    return f"2.25.{uuid5(_NAMESPACE, '/'.join(parts)).int}"


def source_header(source: ExportSource) -> "Dataset":
    """Make the header of the source image, without pixels.

    For a DICOM slide it is made from the largest image of its series. For another slide its UIDs
    are derived from the slide's fingerprint. Its slide coordinates (mm) then count from the top
    left corner of the file's level 0, x along its rows and y along its columns.

    Args:
        source: result of the slide.

    Returns:
        header of a tiled VL Whole Slide Microscopy image.

    Raises:
        StoreError: if the summary is damaged, or the DICOM slide cannot be read.
    """
    header = _made_header(source)
    if source.summary.get("vendor") == "dicom":
        for element in _slide_header(source):
            header[element.tag] = element
    for specimen in header.SpecimenDescriptionSequence:
        for keyword in _REQUIRED_OF_SPECIMENS:
            if keyword not in specimen:
                setattr(specimen, keyword, [])
    return header


def label_origin(header: "Dataset", source: ExportSource, frame: Frame) -> list[float]:
    """Position of the centre of a level's first pixel in slide coordinates (mm): x, y, z.

    All levels share the corner of the slide's first pixel, so their centres differ.

    Args:
        header: header of the source image.
        source: result of the slide.
        frame: frame of the level.
    """
    mpp_y, mpp_x = source.mpp
    right, down = (frame.mpp_x - mpp_x) / 2e3, (frame.mpp_y - mpp_y) / 2e3
    return position(header, right, down)


def position(header: "Dataset", right_mm: float, down_mm: float) -> list[float]:
    """Slide coordinates (mm) of a point of the source image: x, y, z.

    Args:
        header: header of the source image.
        right_mm: distance from the centre of its first pixel along a row (mm).
        down_mm: distance from that centre along a column (mm).
    """
    origin = header.TotalPixelMatrixOriginSequence[0]
    start = [float(origin.get(f"{axis}OffsetInSlideCoordinateSystem") or 0) for axis in "XYZ"]
    directions = [float(value) for value in header.ImageOrientationSlide]
    return [start[i] + right_mm * directions[i] + down_mm * directions[3 + i] for i in range(3)]


def _made_header(source: ExportSource) -> "Dataset":
    from pydicom.dataset import Dataset  # noqa: PLC0415 - takes 0.1 s

    name = str(source.summary.get("fingerprint") or source.slide_id)
    header = Dataset()
    for keyword, value in _MADE.items():
        setattr(header, keyword, value)
    for kind in ("Study", "Series", "SOP"):
        setattr(header, f"{kind}InstanceUID", derived_uid("slide", name, kind))
    header.FrameOfReferenceUID = derived_uid("slide", name, "FrameOfReference")
    header.ContainerIdentifier = printable(source.slide_id)[:64]
    specimen = Dataset()
    specimen.SpecimenIdentifier = header.ContainerIdentifier
    specimen.SpecimenUID = derived_uid("slide", name, "Specimen")
    header.SpecimenDescriptionSequence = [specimen]
    _set_pixels(header, source)
    return header


_MADE: Mapping[str, Any] = {
    "SpecificCharacterSet": "ISO_IR 192",
    "SOPClassUID": _VL_WHOLE_SLIDE,
    "Modality": "SM",
    "ImageType": ["DERIVED", "PRIMARY", "VOLUME", "NONE"],
    "PatientID": "",
    "PatientName": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyID": "",
    "StudyDate": "",
    "StudyTime": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "PositionReferenceIndicator": "SLIDE_CORNER",
    "DimensionOrganizationType": "TILED_FULL",
    "SamplesPerPixel": 3,
    "TotalPixelMatrixFocalPlanes": 1,
    "NumberOfOpticalPaths": 1,
    "ImageOrientationSlide": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    "IssuerOfTheContainerIdentifierSequence": [],
    "ContainerTypeCodeSequence": [],
    "LossyImageCompression": "00",
}


def _set_pixels(header: "Dataset", source: ExportSource) -> None:
    """Set size, pixel size and position of the scanned region."""
    from pydicom.dataset import Dataset  # noqa: PLC0415

    top, left, height, width = source.bounds_px
    mpp_y, mpp_x = source.mpp
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = decimal((left + 0.5) * mpp_x / 1e3)
    origin.YOffsetInSlideCoordinateSystem = decimal((top + 0.5) * mpp_y / 1e3)
    origin.ZOffsetInSlideCoordinateSystem = decimal(0.0)
    header.TotalPixelMatrixOriginSequence = [origin]
    measures = Dataset()
    measures.PixelSpacing = [decimal(mpp_y / 1e3), decimal(mpp_x / 1e3)]
    measures.SliceThickness = decimal(0.001)
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    header.Rows = header.Columns = 512
    header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns = height, width
    header.NumberOfFrames = -(-height // 512) * -(-width // 512)


def decimal(value: float) -> str:
    """Number as a decimal string of DICOM (at most 16 characters), as exact as that allows."""
    from pydicom.valuerep import format_number_as_ds  # noqa: PLC0415

    return format_number_as_ds(float(value))


def _slide_header(source: ExportSource) -> "Dataset":
    """Read the elements to copy from the largest image of a DICOM slide.

    Raises:
        StoreError: if the slide has gone, or is no DICOM slide any more.
    """
    import pydicom  # noqa: PLC0415

    with suppress(OSError):
        headers = []
        for path in series_files(source.slide_path):
            with suppress(pydicom.errors.InvalidDicomError, *HEADER_ERRORS):
                headers.append(pydicom.dcmread(path, stop_before_pixels=True))
        found = max(headers, key=_pixel_count, default=None)
        if found is not None:
            copied = pydicom.Dataset()
            for keyword in _COPIED:
                if found.get(keyword) not in (None, ""):
                    copied[keyword] = found[keyword]
            return copied
    raise StoreError(
        f"{source.slide_path} is needed, because the segmentation refers to it, and cannot be read "
        "as a DICOM slide; put it back at this path"
    )


def _pixel_count(header: "Dataset") -> int:
    try:
        return int(header.TotalPixelMatrixRows) * int(header.TotalPixelMatrixColumns)
    except HEADER_ERRORS:
        return 0
