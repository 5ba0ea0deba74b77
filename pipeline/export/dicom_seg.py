"""DICOM segmentation of a slide (SEG, PS3.3 A.51 and A.86): one file with a segment for each class.

highdicom makes the header. It wants the pixels of all segments as one array, so the frames and
their positions are written here, one after the other, with bounded memory. Only frames with
content are written (TILED_SPARSE).
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.dicom_codes import class_codes
from noctile.pipeline.export.dicom_source import (
    decimal,
    derived_uid,
    label_origin,
    position,
    source_header,
)
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.export.tiles import label_tiles
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.slides.dicom import HEADER_ERRORS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

TILE_PX = 512
"""Side of a frame (px). Its bits fill whole bytes, so that frames can be written one by one."""

MAX_FRAMES = 2**16
"""Most frames of a file. In a binary segmentation they take 2 GiB, half of the largest element
that DICOM allows. The finest level of the label map with no more frames is written."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_FRAME_GROUPS, _PIXELS = b"\x00\x52\x30\x92SQ\0\0", b"\xe0\x7f\x10\x00OB\0\0"


@dataclass(frozen=True, slots=True)
class _Frames:
    """Frames of a segmentation, in the order of the file.

    Attributes:
        level: level of the label map.
        keys: position of each frame, as row and column of its tile, and its segment; the segment
            is 0 in a label map.
        digest: hash of the labels, hexadecimal.
    """

    level: int
    keys: list[tuple[int, int, int]]
    digest: str


def write_dicom_seg(source: ExportSource, path: Path, labelmap: bool = False) -> None:
    """Write the label map of a slide as a DICOM segmentation. The same mask makes the same bytes.

    Memory is bounded: frames are written one by one.

    Args:
        source: result of the slide.
        path: path of the file.
        labelmap: True for a label map of 8 bits (RLE), which is smaller and which few viewers read
            yet; its segments have the codes of the classes as numbers. False for binary segments,
            numbered from 1 in the order of the codes.

    Raises:
        StoreError: if the mask or the DICOM slide cannot be read.
        OSError: if the file cannot be written.
    """
    import pydicom  # noqa: PLC0415 - takes 0.1 s

    segments = {info.code: n for n, info in enumerate(source.classes, 1)}
    frames = _find_frames(source, None if labelmap else segments)
    try:
        header = _header(source, frames, labelmap)
    except HEADER_ERRORS as error:
        raise StoreError(
            f"{source.slide_id}: no DICOM header can be made from {source.slide_path} and its "
            f"result: {error}"
        ) from error
    groups = _frame_groups(source, frames, header)
    with path.open("wb") as file:
        pydicom.dcmwrite(file, header, enforce_file_format=True)
        _write_groups(file, groups)
        if labelmap:
            _write_label_frames(file, source, frames)
        else:
            _write_bit_frames(file, source, frames, segments)


def _find_frames(source: ExportSource, segments: dict[int, int] | None) -> _Frames:
    """Find the finest level with few enough frames, and the frames of it that have content."""
    for level in range(len(source.frames)):
        keys, digest = [], hashlib.sha256()
        for box, tile in label_tiles(source.store, level, TILE_PX):
            digest.update(tile.tobytes())
            keys += [(*_tile_key(box), segment) for segment in _segments_of(tile, segments)]
            if len(keys) > MAX_FRAMES:
                break
        else:
            # a segmentation has at least one frame, also without content
            return _Frames(
                level, keys or [(0, 0, 0 if segments is None else 1)], digest.hexdigest()
            )
    raise AssertionError("the coarsest level has one tile")


def _tile_key(box: Box) -> tuple[int, int]:
    return box.y // TILE_PX, box.x // TILE_PX


def _segments_of(tile: UInt8, segments: dict[int, int] | None) -> list[int]:
    """Segments with content in a tile; 0 stands for all of them in a label map."""
    codes = np.flatnonzero(np.bincount(tile.ravel(), minlength=256))
    if segments is None:
        return [0] if codes[-1] else []
    return [segments[code] for code in codes.tolist() if code in segments]


def _header(source: ExportSource, frames: _Frames, labelmap: bool) -> "Dataset":
    """Make everything of the file but the positions and the pixels of its frames."""
    import highdicom  # noqa: PLC0415 - takes 1 s
    from pydicom.uid import ExplicitVRLittleEndian, RLELossless  # noqa: PLC0415

    image, frame = source_header(source), source.frames[frames.level]
    origin = label_origin(image, source, frame)
    numbers = [info.code if labelmap else n for n, info in enumerate(source.classes, 1)]
    # highdicom sees one tile, which has each segment; the true size is set afterwards
    image.TotalPixelMatrixRows = image.TotalPixelMatrixColumns = TILE_PX
    pixels = np.zeros((1, TILE_PX, TILE_PX), np.uint8)
    pixels[0, 0, : len(numbers)] = numbers
    about = [repr([c.model_dump(mode="json") for c in source.classes]), frames.digest]
    about += [str(frames.level), str(labelmap), str(source.summary.get("key"))]
    version = str((source.summary.get("versions") or {}).get("noctile") or "unknown")
    made = highdicom.seg.Segmentation(
        source_images=[image],
        pixel_array=pixels,
        segmentation_type="LABELMAP" if labelmap else "BINARY",
        segment_descriptions=_descriptions(source, numbers),
        series_instance_uid=derived_uid("series", *about),
        series_number=1,
        sop_instance_uid=derived_uid("instance", *about),
        instance_number=1,
        manufacturer="Noctile",
        manufacturer_model_name=str(source.summary.get("model") or "unknown")[:64],
        software_versions=version[:64],
        device_serial_number=str(source.summary.get("model_sha256") or "unknown")[:16],
        content_label="SEGMENTATION",
        content_description="Classes of tissue",
        transfer_syntax_uid=RLELossless if labelmap else ExplicitVRLittleEndian,
        pixel_measures=highdicom.PixelMeasuresSequence(
            (frame.mpp_y / 1e3, frame.mpp_x / 1e3), slice_thickness=0.001
        ),
        plane_orientation=highdicom.PlaneOrientationSequence("SLIDE", image.ImageOrientationSlide),
        plane_positions=[highdicom.PlanePositionSequence("SLIDE", origin, (1, 1))],
        tile_pixel_array=True,
        tile_size=(TILE_PX, TILE_PX),
        dimension_organization_type="TILED_SPARSE",
    )
    return _completed(made, source, frames, image)


def _descriptions(source: ExportSource, numbers: Sequence[int]) -> list[Any]:
    """Describe the segments: names, codes, colors, and the model that found them."""
    import highdicom  # noqa: PLC0415
    from pydicom.sr.codedict import codes  # noqa: PLC0415

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=str(source.summary.get("model") or "unknown")[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=str(source.summary.get("model_sha256") or "unknown")[:64],
    )
    described = []
    for number, info in zip(numbers, source.classes, strict=True):
        category, kind = class_codes(info)
        described.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=info.name[:64],
                segmented_property_category=category,
                segmented_property_type=kind,
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
                display_color=highdicom.color.CIELabColor.from_rgb(*info.color),
            )
        )
    return described


def _completed(made: Any, source: ExportSource, frames: _Frames, image: "Dataset") -> "Dataset":
    """Return the header with the size, the times and the UIDs of this file.

    The time is that of the mask's first file, not of the clock.
    """
    from pydicom.dataset import Dataset  # noqa: PLC0415

    header = Dataset()
    header.update({e.tag: e for e in made if e.keyword not in _LEFT_OUT})
    header.file_meta, header.preamble = made.file_meta, made.preamble
    frame = source.frames[frames.level]
    header.TotalPixelMatrixRows = frame.extent.height
    header.TotalPixelMatrixColumns = frame.extent.width
    header.NumberOfFrames = len(frames.keys)
    header.PatientOrientation = ""  # required, and empty for a slide
    header.LossyImageCompression = image.LossyImageCompression
    when = datetime.fromtimestamp((source.store.path / "zarr.json").stat().st_mtime, UTC)
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(header, f"{name}Date", f"{when:%Y%m%d}")
        setattr(header, f"{name}Time", f"{when:%H%M%S}")
    for equipment in header.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = f"{when:%Y%m%d%H%M%S}"
    header.TimezoneOffsetFromUTC = "+0000"
    organization = derived_uid("dimensions", header.SOPInstanceUID)
    header.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in header.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    return header


_LEFT_OUT = ("PerFrameFunctionalGroupsSequence", "PixelData")


def _frame_groups(source: ExportSource, frames: _Frames, header: "Dataset") -> Iterator["Dataset"]:
    """Describe the frames one by one: index, position and segment."""
    frame, image = source.frames[frames.level], header
    rows, columns, segments = (_ranks(values) for values in zip(*frames.keys, strict=True))
    one_segment = len(header.SegmentSequence) == 1
    for row, column, segment in frames.keys:
        index = [rows[row], columns[column]]
        if segment:
            index.insert(0, segments[segment])
        item = _group(image, frame, index, row * TILE_PX, column * TILE_PX)
        if segment and not one_segment:  # highdicom puts a single segment beside all frames
            item.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=segment)]
        yield item


def _ranks(values: Sequence[int]) -> dict[int, int]:
    """Rank of each value among all values, from 1."""
    return {value: rank for rank, value in enumerate(sorted(set(values)), 1)}


def _group(header: "Dataset", frame: Frame, index: list[int], y: int, x: int) -> "Dataset":
    """Describe a frame whose first pixel is (y, x) of its level."""
    point = position(header, x * frame.mpp_x / 1e3, y * frame.mpp_y / 1e3)
    offsets = {
        f"{axis}OffsetInSlideCoordinateSystem": decimal(mm)
        for axis, mm in zip("XYZ", point, strict=True)
    }
    place = _item(
        RowPositionInTotalImagePixelMatrix=y + 1,
        ColumnPositionInTotalImagePixelMatrix=x + 1,
        **offsets,
    )
    return _item(
        FrameContentSequence=[_item(DimensionIndexValues=index)],
        PlanePositionSlideSequence=[place],
        DerivationImageSequence=[],
    )


def _item(**values: Any) -> "Dataset":
    from pydicom.dataset import Dataset  # noqa: PLC0415

    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _write_groups(file: BinaryIO, groups: Iterator["Dataset"]) -> None:
    """Write the sequence of the frames' groups, item by item."""
    from pydicom.filebase import DicomBytesIO  # noqa: PLC0415
    from pydicom.filewriter import write_dataset  # noqa: PLC0415

    file.write(_FRAME_GROUPS + struct.pack("<I", _UNDEFINED))
    for group in groups:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, group)
        _write_item(file, buffer.getvalue())
    file.write(_SEQUENCE_END + bytes(4))


def _write_item(file: BinaryIO, content: bytes) -> None:
    file.write(_ITEM + struct.pack("<I", len(content)) + content)


def _write_bit_frames(
    file: BinaryIO, source: ExportSource, frames: _Frames, segments: dict[int, int]
) -> None:
    """Write binary frames, one bit a pixel, without compression."""
    codes = {number: code for code, number in segments.items()}
    file.write(_PIXELS + struct.pack("<I", len(frames.keys) * TILE_PX**2 // 8))
    for tile, segment in _tiles(source, frames):
        file.write(np.packbits(tile == codes[segment], bitorder="little").tobytes())


def _write_label_frames(file: BinaryIO, source: ExportSource, frames: _Frames) -> None:
    """Write frames of labels, each compressed alone (RLE)."""
    from highdicom.frame import encode_frame  # noqa: PLC0415
    from pydicom.uid import RLELossless  # noqa: PLC0415

    file.write(_PIXELS + struct.pack("<I", _UNDEFINED))
    _write_item(file, b"")  # no table of offsets
    for tile, _ in _tiles(source, frames):
        _write_item(
            file,
            encode_frame(
                tile,
                transfer_syntax_uid=RLELossless,
                bits_allocated=8,
                bits_stored=8,
                photometric_interpretation="MONOCHROME2",
                pixel_representation=0,
            ),
        )
    file.write(_SEQUENCE_END + bytes(4))


def _tiles(source: ExportSource, frames: _Frames) -> Iterator[tuple[UInt8, int]]:
    """Read the tile of each frame, and give it with the frame's segment."""
    remaining = iter(frames.keys)
    key = next(remaining, None)
    for box, tile in label_tiles(source.store, frames.level, TILE_PX):
        while key is not None and key[:2] == _tile_key(box):
            yield tile, key[2]
            key = next(remaining, None)
