"""Choice of the reader for each slide file."""

import os
from contextlib import ExitStack
from pathlib import Path

from openslide import OpenSlide

from noctile.pipeline.errors import (
    MppImplausibleError,
    SlideError,
    SlideMissingError,
    SlideOpenError,
)
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.fingerprint import fingerprint
from noctile.pipeline.slides.image import ImageSource, is_image, mpp_from_name
from noctile.pipeline.slides.links import data_path
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pixel_size import MppCandidates, resolve_mpp
from noctile.pipeline.slides.pyramid import PyramidReader, level_frames
from noctile.pipeline.slides.source import PixelSource, SourceInfo
from noctile.pipeline.slides.storage import Storage
from noctile.pipeline.slides.tiff.layout import LibraryOnly, tile_layouts
from noctile.pipeline.slides.tiff.limits import MAX_SIDE_PX, check_directories, check_tile_bytes
from noctile.pipeline.slides.tiff.reader import TiledTiffSource
from noctile.pipeline.slides.tiff.tags import NO_RESOLUTION, TiffTags, is_tiff, read_tags
from noctile.pipeline.slides.tiffslide import TiffSlideSource

_OPENSLIDE_LACKS = ("jpeg2000", "webp")
"""Codecs of generic TIFF that tiffslide decodes and the OpenSlide of openslide-bin does not."""

_OPENSLIDE_BITS = (8, 16)
"""Bits of a sample that OpenSlide decodes in generic TIFF; of 16 it takes the upper 8. It opens
files with 1 to 12 bits too, and most of these fail when they are read. tiffslide refuses them and
names the number of bits."""

MAX_AREA_MM2 = 4_000.0
"""Largest area of a slide (mm2): all of a large glass, 51 x 76 mm. The search for tissue takes 30
bytes for each pixel of 8 um, so 1.9 GB for this area. A standard glass has half of it."""


def open_slide(
    path: str | os.PathLike[str],
    *,
    slide_id: str | None = None,
    mpp: float | tuple[float, float] | None = None,
    bgr: bool | None = None,
) -> SlideReader:
    """Open a slide with the first library that supports it: OpenSlide, tiffslide or Pillow.

    tiffslide reads TIFF files that OpenSlide does not know, Pillow reads PNG and JPEG. If the tiles
    of a TIFF file can be read directly (`tile_layouts` holds the rule), OpenSlide or tiffslide only
    describes the slide, and `TiledTiffSource` reads the pixels.

    Args:
        path: the file or a link to it; the .mrxs file of an MRXS slide, any file of a DICOM series.
        slide_id: name of the slide; None for the file's stem.
        mpp: size of a level-0 pixel (um), or of its two sides (y, x). It overrides the file's.
        bgr: True if the file stores its channels in BGR order, False if in RGB order, as the user
            states or an earlier reader found; None to detect it from the pixels.

    Raises:
        SlideMissingError: if there is no such file.
        SlideOpenError: if no library supports the file or can open it, or its levels are
            impossible.
        StorageError: if the disk or the network with the file answers with an error.
        MppMissingError: if the pixel size is unknown.
        MppImplausibleError: if the pixel size or the area of the slide is implausible.
    """
    path = Path(path)
    slide_id = slide_id or path.stem
    try:
        _check_kind(path, slide_id)
        path = data_path(path)
        return read_with(_source(path, slide_id), path, slide_id, mpp, bgr)
    except SlideError as error:
        if storage_error := Storage(slide_id, path).error_behind(error):
            raise storage_error from error
        raise
    except OSError as error:
        if storage_error := Storage(slide_id, path).error_behind(error):
            raise storage_error from error
        raise SlideOpenError(
            f"slide {slide_id}: {path} cannot be read: {error.strerror or error}. Check the path "
            "and its permissions"
        ) from error


def _check_kind(path: Path, slide_id: str) -> None:
    """Check that a path is a file or a folder.

    Raises:
        SlideMissingError: if there is none.
        SlideOpenError: if it is a pipe or a device.
        OSError: if its kind cannot be read.
    """
    if not path.exists():
        raise SlideMissingError(
            f"slide {slide_id}: there is no file {path}. Check the path, or copy the file there"
        )
    if not (path.is_file() or path.is_dir()):
        raise SlideOpenError(
            f"slide {slide_id}: {path} is a pipe or a device, not a file. Name a file"
        )


def read_with(
    source: PixelSource,
    path: Path,
    slide_id: str,
    mpp: float | tuple[float, float] | None = None,
    bgr: bool | None = None,
) -> PyramidReader:
    """Make the reader over an open source; the source is closed if that fails.

    Args:
        source: the open file.
        path: path of the file.
        slide_id: name of the slide.
        mpp: see `open_slide`.
        bgr: see `open_slide`.

    Raises:
        SlideOpenError: if the levels of the file are impossible.
        MppMissingError: if the pixel size is unknown.
        MppImplausibleError: if the pixel size or the area of the slide is implausible.
        OSError: if the file cannot be read.
    """
    with ExitStack() as cleanup:
        cleanup.callback(source.close)
        reader = PyramidReader(source, _describe(source, path, slide_id, mpp), bgr)
        cleanup.pop_all()
    return reader


def _source(path: Path, slide_id: str) -> PixelSource:
    """Open the pixels of a file, directly if possible, else through a library.

    Raises:
        SlideOpenError: if no library supports the file.
        OSError: if it cannot be read.
    """
    if not is_tiff(path):
        return _library(path, slide_id)
    check_directories(path, slide_id)
    library = _library(path, slide_id)
    with ExitStack() as cleanup:
        cleanup.callback(library.close)
        layouts = tile_layouts(path, library.info)
        if isinstance(layouts, LibraryOnly):
            check_tile_bytes(path, slide_id)
            cleanup.pop_all()
            return library
        return TiledTiffSource(path, slide_id, library.info, layouts)


def _library(path: Path, slide_id: str) -> PixelSource:
    """Open a file with the reader library that supports it.

    Raises:
        SlideOpenError: if no library supports the file.
        OSError: if it cannot be read.
    """
    tiff, vendor = is_tiff(path), OpenSlide.detect_format(path)
    if vendor and not (vendor == "generic-tiff" and _openslide_lacks(read_tags(path))):
        return OpenSlideSource(path, slide_id)
    if tiff:
        return TiffSlideSource(path, slide_id)
    if path.suffix.lower() != ".mrxs" and is_image(path):  # an .mrxs file is a JPEG thumbnail
        return ImageSource(path, slide_id)
    raise SlideOpenError(
        f"slide {slide_id}: no reader supports {path}: OpenSlide does not recognise it, and it is "
        "not TIFF, PNG or JPEG. If it is a slide, copy it again (an MRXS file needs the folder of "
        "the same name beside it) or convert it to a tiled TIFF"
    )


def _openslide_lacks(tags: TiffTags) -> bool:
    """Tell if a file is generic TIFF that OpenSlide opens but cannot decode."""
    return tags.compression in _OPENSLIDE_LACKS or tags.bits not in _OPENSLIDE_BITS


def _describe(
    source: PixelSource, path: Path, slide_id: str, mpp: float | tuple[float, float] | None
) -> SlideInfo:
    """Describe a slide: choose its pixel size, and check its levels and its area."""
    file = source.info
    _check_levels(file, path, slide_id)
    tags = (
        read_tags(path)
        if is_tiff(path)
        else TiffTags(file.compression or "unknown", None, NO_RESOLUTION)
    )
    candidates = MppCandidates(
        user=(mpp, mpp) if isinstance(mpp, int | float) else mpp,
        metadata=file.mpp,
        file_name=mpp_from_name(path.name),
        tags=tags.mpp,
        tags_text=tags.resolution_text,
        objective_power=file.objective_power,
    )
    mpp_y, mpp_x, mpp_source = resolve_mpp(slide_id, candidates)
    scanned = file.scanned
    frame = Frame(scanned.extent, mpp_y, mpp_x)
    if frame.area_mm2 > MAX_AREA_MM2:
        raise MppImplausibleError(
            f"slide {slide_id}: {scanned.width} x {scanned.height} px of {frame.mpp:.4g} um "
            f"({mpp_source}) would be {frame.area_mm2:.0f} mm2, more than the largest glass "
            f"({MAX_AREA_MM2:.0f}). Pass the true pixel size with --mpp or in the manifest; if it "
            "is true, cut the file or convert it to coarser pixels"
        )
    return SlideInfo(
        slide_id=slide_id,
        path=path,
        fingerprint=fingerprint(path),
        frame=frame,
        levels=level_frames(file, mpp_y, mpp_x),
        vendor=file.vendor,
        reader=file.reader,
        mpp_source=mpp_source,
        compression=tags.compression,
        objective_power=file.objective_power,
        bounds=scanned,
    )


def _check_levels(file: SourceInfo, path: Path, slide_id: str) -> None:
    """Check that the levels of a file can be those of a slide.

    Raises:
        SlideOpenError: if there is no level, a level is empty or larger than level 0, or level 0 is
            larger than any slide.
    """
    native = file.extents[0] if file.extents else Extent(0, 0)
    sides = [side for extent in file.extents for side in (extent.height, extent.width)]
    grown = any(
        extent.height > native.height or extent.width > native.width for extent in file.extents
    )
    if not sides or min(sides) < 1 or max(sides) > MAX_SIDE_PX or grown:
        levels = ", ".join(f"{extent.width} x {extent.height}" for extent in file.extents[:8])
        raise SlideOpenError(
            f"slide {slide_id}: {file.reader} finds levels of {levels or 'no'} px in {path}. The "
            f"sides of a slide have 1 to {MAX_SIDE_PX} px, and no level is larger than the first, "
            "so the file is damaged. Copy it again from where it was scanned or archived, or leave "
            "it out"
        )
