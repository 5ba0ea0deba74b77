"""Which reader serves which file, decided in one place."""

from contextlib import ExitStack
from pathlib import Path

from openslide import OpenSlide

from noctile.pipeline.errors import MppImplausibleError, SlideOpenError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.fingerprint import fingerprint
from noctile.pipeline.slides.image import ImageSource, is_image, mpp_from_name
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pixel_size import MppCandidates, resolve_mpp
from noctile.pipeline.slides.pyramid import PyramidReader, level_frames
from noctile.pipeline.slides.source import PixelSource, SourceInfo
from noctile.pipeline.slides.tiff.layout import LibraryOnly, tile_layouts
from noctile.pipeline.slides.tiff.limits import MAX_SIDE_PX, check_directories, check_tile_bytes
from noctile.pipeline.slides.tiff.reader import TiledTiffSource
from noctile.pipeline.slides.tiff.tags import NO_RESOLUTION, TiffTags, is_tiff, read_tags
from noctile.pipeline.slides.tiffslide import TiffSlideSource

_OPENSLIDE_LACKS = ("jpeg2000", "webp")
"""Codecs of generic TIFF that tiffslide decodes and OpenSlide, in the build of openslide-bin, does
not."""

MAX_AREA_MM2 = 4_000.0
"""Largest slide (mm2): the whole glass of a large one, 51 x 76 mm. At 8 um/px, where tissue is
looked for in 30 bytes a pixel, that is 1.9 GB; a standard glass has half of it."""


def open_slide(
    path: Path,
    *,
    slide_id: str | None = None,
    mpp: float | tuple[float, float] | None = None,
    bgr: bool | None = None,
) -> SlideReader:
    """Open a slide: through OpenSlide if it knows the format, else tiffslide if it is TIFF, Pillow
    if PNG or JPEG.

    From TIFF whose tiles can be read without them (`tile_layouts` holds the rule) OpenSlide and
    tiffslide only say what the slide is.

    Args:
        path: the file; for MRXS the .mrxs file, for DICOM any file of the series.
        slide_id: name of the slide; None: the file's stem.
        mpp: size of a level-0 pixel (um), or of its two sides (y, x); overrides what the file says.
        bgr: `SlideReader.bgr`, where an earlier reader of the slide found it; None:
            pixels are looked at.

    Raises:
        SlideOpenError: if there is no such file, no reader knows it, the reader cannot open it, or
            what it says of its levels cannot be.
        MppMissingError: if nothing says how large a pixel is.
        MppImplausibleError: if what is said cannot be true.
    """
    slide_id = slide_id or path.stem
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise SlideOpenError(
                f"slide {slide_id}: {path} is no file but a pipe or a device. Name a file"
            )
        return read_with(_source(path, slide_id), path, slide_id, mpp, bgr)
    except OSError as error:
        raise SlideOpenError(
            f"slide {slide_id}: {path} cannot be read: {error.strerror or error}. Check the path and its permissions"
        ) from error


def read_with(
    source: PixelSource,
    path: Path,
    slide_id: str,
    mpp: float | tuple[float, float] | None = None,
    bgr: bool | None = None,
) -> PyramidReader:
    """The reader over an open source, which is closed if that fails.

    Raises:
        MppMissingError: if nothing says how large a pixel is.
        MppImplausibleError: if what is said cannot be true.
        OSError: if the file cannot be read.
    """
    with ExitStack() as cleanup:
        cleanup.callback(source.close)
        reader = PyramidReader(source, _describe(source, path, slide_id, mpp), bgr)
        cleanup.pop_all()
    return reader


def _source(path: Path, slide_id: str) -> PixelSource:
    """The pixels of a file.

    Raises:
        SlideOpenError: if no library knows the file.
        OSError: if it cannot be read.
    """
    if not is_tiff(path):
        return _library(path, slide_id)
    check_directories(path, slide_id)
    library = _library(path, slide_id)
    with ExitStack() as cleanup:
        cleanup.callback(library.close)
        grids = tile_layouts(path, library.info)
        if isinstance(grids, LibraryOnly):
            check_tile_bytes(path, slide_id)
            cleanup.pop_all()
            return library
        return TiledTiffSource(path, slide_id, library.info, grids)


def _library(path: Path, slide_id: str) -> PixelSource:
    """The reader library's handle.

    Raises:
        SlideOpenError: if no library knows the file.
        OSError: if it cannot be read.
    """
    tiff, vendor = is_tiff(path), OpenSlide.detect_format(path)
    if vendor and not (
        vendor == "generic-tiff" and read_tags(path).compression in _OPENSLIDE_LACKS
    ):
        return OpenSlideSource(path, slide_id)
    if tiff:
        return TiffSlideSource(path, slide_id)
    if path.suffix.lower() != ".mrxs" and is_image(path):  # MIRAX's is its slide in small, as JPEG
        return ImageSource(path, slide_id)
    raise SlideOpenError(
        f"slide {slide_id}: no reader knows {path}: OpenSlide does not recognise it, and it is not TIFF, PNG or JPEG, "
        "so that no other was tried. If it is a slide, copy it again (an MRXS file needs the folder of the same name "
        "beside it) or convert it to a tiled TIFF"
    )


def _describe(
    source: PixelSource, path: Path, slide_id: str, mpp: float | tuple[float, float] | None
) -> SlideInfo:
    facts = source.info
    _check_levels(facts, path, slide_id)
    tags = (
        read_tags(path)
        if is_tiff(path)
        else TiffTags(facts.compression or "unknown", None, NO_RESOLUTION)
    )
    user = (mpp, mpp) if isinstance(mpp, int | float) else mpp
    said = MppCandidates(
        user, facts.mpp, mpp_from_name(path.name), tags.mpp, tags.said, facts.objective_power
    )
    mpp_y, mpp_x, mpp_source = resolve_mpp(slide_id, said)
    scanned = facts.scanned
    frame = Frame(scanned.extent, mpp_y, mpp_x)
    if frame.area_mm2 > MAX_AREA_MM2:
        raise MppImplausibleError(
            f"slide {slide_id}: {scanned.width} x {scanned.height} px of {frame.mpp:.4g} um ({mpp_source}) would be "
            f"{frame.area_mm2:.0f} mm2, more than the largest glass ({MAX_AREA_MM2:.0f}). Pass the true pixel size "
            "with --mpp or in the manifest; if it is true, cut the file or convert it to coarser pixels"
        )
    return SlideInfo(
        slide_id=slide_id,
        path=path,
        fingerprint=fingerprint(path),
        frame=frame,
        levels=level_frames(facts, mpp_y, mpp_x),
        vendor=facts.vendor,
        reader=facts.reader,
        mpp_source=mpp_source,
        compression=tags.compression,
        objective_power=facts.objective_power,
        bounds=scanned,
    )


def _check_levels(facts: SourceInfo, path: Path, slide_id: str) -> None:
    """Nothing, if the levels can be those of a slide.

    Raises:
        SlideOpenError: if there is none, one is empty or larger than level 0, or level 0 is
            absurdly large.
    """
    native = facts.extents[0] if facts.extents else Extent(0, 0)
    sides = [side for extent in facts.extents for side in (extent.height, extent.width)]
    grown = any(
        extent.height > native.height or extent.width > native.width for extent in facts.extents
    )
    if not sides or min(sides) < 1 or max(sides) > MAX_SIDE_PX or grown:
        levels = ", ".join(f"{extent.width} x {extent.height}" for extent in facts.extents[:8])
        raise SlideOpenError(
            f"slide {slide_id}: {facts.reader} finds levels of {levels or 'no'} px in {path}. Sides go from 1 to "
            f"{MAX_SIDE_PX} px, and no level is larger than the first: the file is damaged. Copy it again from where "
            "it was scanned or archived, or leave it out"
        )
