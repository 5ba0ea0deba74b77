"""Which reader serves which file, decided in one place."""

from contextlib import ExitStack
from pathlib import Path

from openslide import OpenSlide

from pipeline.errors import SlideOpenError
from pipeline.geometry import Frame
from pipeline.slides.base import SlideInfo, SlideReader
from pipeline.slides.fingerprint import fingerprint
from pipeline.slides.image import ImageSource, is_image, mpp_from_name
from pipeline.slides.mpp import Statements, resolve_mpp
from pipeline.slides.openslide import OpenSlideSource
from pipeline.slides.pyramid import PixelSource, PyramidReader, level_frames
from pipeline.slides.tags import NO_RESOLUTION, TiffTags, is_tiff, read_tags
from pipeline.slides.tiffslide import TiffSlideSource


def open_slide(
    path: Path, *, slide_id: str | None = None, mpp: float | tuple[float, float] | None = None
) -> SlideReader:
    """Open a slide: through OpenSlide if it knows the format, else tiffslide if it is TIFF, Pillow if PNG or JPEG.

    Args:
        path: the file; for MRXS the .mrxs file, for DICOM any file of the series.
        slide_id: name of the slide; None: the file's stem.
        mpp: size of a level-0 pixel (um), or of its two sides (y, x); overrides what the file says.

    Raises:
        SlideOpenError: if there is no such file, no reader knows it, or the reader cannot open it.
        MppMissingError: if nothing says how large a pixel is.
        MppImplausibleError: if what is said cannot be true.
    """
    slide_id = slide_id or path.stem
    try:
        return read_with(_source(path, slide_id), path, slide_id, mpp)
    except OSError as error:
        raise SlideOpenError(
            f"slide {slide_id}: {path} cannot be read: {error.strerror or error}. Check the path and its permissions"
        ) from error


def read_with(
    source: PixelSource, path: Path, slide_id: str, mpp: float | tuple[float, float] | None = None
) -> PyramidReader:
    """The reader over an open source, which is closed if that fails.

    Raises:
        MppMissingError: if nothing says how large a pixel is.
        MppImplausibleError: if what is said cannot be true.
        OSError: if the file cannot be read.
    """
    with ExitStack() as cleanup:
        cleanup.callback(source.close)
        reader = PyramidReader(source, _describe(source, path, slide_id, mpp))
        cleanup.pop_all()
    return reader


def _source(path: Path, slide_id: str) -> PixelSource:
    """The reader library's handle.

    Raises:
        SlideOpenError: if no library knows the file.
        OSError: if it cannot be read.
    """
    tiff = is_tiff(path)
    if OpenSlide.detect_format(path):
        return OpenSlideSource(path, slide_id)
    if tiff:
        return TiffSlideSource(path, slide_id)
    if is_image(path):
        return ImageSource(path, slide_id)
    raise SlideOpenError(
        f"slide {slide_id}: no reader knows {path}: OpenSlide does not recognise it, and it is not TIFF, PNG or JPEG, "
        "so that no other was tried. If it is a slide, copy it again (an MRXS file needs the folder of the same name "
        "beside it) or convert it to a tiled TIFF"
    )


def _describe(source: PixelSource, path: Path, slide_id: str, mpp: float | tuple[float, float] | None) -> SlideInfo:
    facts = source.facts
    tags = read_tags(path) if is_tiff(path) else TiffTags(facts.compression or "unknown", None, NO_RESOLUTION)
    user = (mpp, mpp) if isinstance(mpp, int | float) else mpp
    said = Statements(user, facts.mpp, mpp_from_name(path.name), tags.mpp, tags.said, facts.objective_power)
    mpp_y, mpp_x, mpp_source = resolve_mpp(slide_id, said)
    scanned = facts.scanned
    return SlideInfo(
        slide_id=slide_id,
        path=path,
        fingerprint=fingerprint(path),
        frame=Frame(scanned.extent, mpp_y, mpp_x),
        levels=level_frames(facts, mpp_y, mpp_x),
        vendor=facts.vendor,
        reader=facts.reader,
        mpp_source=mpp_source,
        compression=tags.compression,
        objective_power=facts.objective_power,
        bounds=scanned,
    )
