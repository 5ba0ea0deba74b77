"""Plain PNG and JPEG images as slides of one level, such as regions and tiles cut out of slides.

tiffslide reads plain TIFF. The density tags of PNG and JPEG (72 or 96 dpi) state the size of a
pixel on paper. The size of a pixel on the glass comes from the call, the manifest or the file's
name.
"""

import io
import re
import struct
import threading
import zlib
from pathlib import Path

from PIL import Image, ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideOpenError, SlideReadError
from noctile.pipeline.geometry import Box, Extent
from noctile.pipeline.slides.source import SourceInfo, on_white

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings of the names of plain images."""

MAX_PIXELS = 500_000_000
"""Largest image that is decoded (px): 2 GB in memory. The largest BCSS region has 126 million px.
(roiBounds.csv of BCSS)"""

_OPENERS: dict[bytes, tuple[str, type[ImageFile.ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": ("png", PngImageFile),
    b"\xff\xd8\xff": ("jpeg", JpegImageFile),
}
"""First bytes, name and opener of each format. The openers have no limit on the size, so that only
`MAX_PIXELS` applies. The limit of `Image.open` is one number for the whole process."""

_STREAMS: dict[bytes, type[ImageFile.ImageFile]] = {
    **{magic: opener for magic, (_, opener) in _OPENERS.items()},
    b"\xff\x4f\xff\x51": Jpeg2KImageFile,
    b"\0\0\0\x0cjP  ": Jpeg2KImageFile,
    b"RIFF": WebPImageFile,
}
"""First bytes and opener of the streams in TIFF files that state their size."""

_CODECS = {"png": "deflate", "jpeg": "jpeg"}

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
"""Pillow's modes that convert to 8-bit grey or RGB without loss. Others are 16-bit grey (I;16) or
CMYK, for instance."""

PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
)
"""Exceptions of Pillow for files that are damaged or cut short; a broken PNG is a SyntaxError."""

_NAMED_MPP = re.compile(r"_MPP-(\d+(?:\.\d+)?)(?![\d.]*\d)", re.IGNORECASE)


def is_image(path: Path) -> bool:
    """Test for the first bytes of PNG or JPEG.

    Raises:
        OSError: if the file cannot be read.
    """
    return _opener(path) is not None


def claimed_pixels(stream: bytes) -> int:
    """Read from an encoded image how many pixels it has, without decoding it; 0 if unknown."""
    opener = next((opener for magic, opener in _STREAMS.items() if stream.startswith(magic)), None)
    if opener is None:
        return 0
    try:
        with opener(io.BytesIO(stream)) as image:
            return image.width * image.height
    except PILLOW_ERRORS:
        return 0


def mpp_from_name(name: str) -> float | None:
    """Find the pixel size (um) in a file name, or None.

    BCSS has names such as ``TCGA-A2-A0CM-DX1_xmin18562_ymin56852_MPP-0.2500.png``. (Amgad et al.
    2019, github.com/PathologyDataScience/BCSS)
    """
    found = _NAMED_MPP.findall(name)
    return float(found[-1]) or None if found else None


class ImageSource:
    """`PixelSource` over a PNG or JPEG file, which is decoded once, at the first read.

    Palettes and greys become RGB, transparent pixels become white, and 16-bit colours keep their
    upper 8 bits. The image is not turned by its EXIF orientation, because masks and annotations of
    an image count its stored rows and columns.

    Args:
        path: the file.
        slide_id: name of the slide, for messages.

    Raises:
        SlideOpenError: if the file is no PNG or JPEG, has more than `MAX_PIXELS`, or has a mode
            other than 8-bit grey or RGB.
        OSError: if the file cannot be read.
    """

    def __init__(self, path: Path, slide_id: str) -> None:
        self._path, self._slide_id = path, slide_id
        self._lock = threading.Lock()
        self._image: Image.Image | None = None
        self.info = _source_info(path, slide_id)

    def fetch(self, level: int, box: Box) -> UInt8:  # noqa: ARG002 - there is one level
        """Read pixels of the image, RGB on white, uint8 ``[box.height, box.width, 3]``.

        Raises:
            SlideReadError: if the file cannot be decoded.
        """
        part = self._decoded().crop((box.x, box.y, box.x_stop, box.y_stop))
        return on_white(part.convert("RGBA") if part.has_transparency_data else part)

    def forget(self) -> None:
        """Do nothing: the image is decoded once."""

    def close(self) -> None:
        """Drop the pixels."""
        self._image = None

    def _decoded(self) -> Image.Image:
        with self._lock:
            if self._image is None:
                self._image = _decode(self._path, self._slide_id)
            return self._image


def _source_info(path: Path, slide_id: str) -> SourceInfo:
    found = _opener(path)
    if found is None:
        raise SlideOpenError(
            f"slide {slide_id}: {path} is neither PNG nor JPEG; save it as one of them"
        )
    format_name, opener = found
    try:
        with opener(path) as image:
            (width, height), mode = image.size, image.mode
    except PILLOW_ERRORS as error:
        raise SlideOpenError(
            f"slide {slide_id}: {path} begins like a {format_name.upper()} file but cannot be "
            f"opened: {error}. Copy it again from where it was made, or leave it out"
        ) from error
    if height * width > MAX_PIXELS:
        raise SlideOpenError(
            f"slide {slide_id}: {path} has {width} x {height} pixels, more than can be decoded at "
            f"once ({MAX_PIXELS}). Convert it to a tiled TIFF"
        )
    if mode not in _MODES:
        raise SlideOpenError(
            f"slide {slide_id}: the pixels of {path} have mode {mode}, but only 8-bit grey or RGB "
            "is read. Save the image as 8-bit RGB"
        )
    extents = (Extent(height, width),)
    return SourceInfo("pillow", format_name, extents, None, None, None, _CODECS[format_name])


def _decode(path: Path, slide_id: str) -> Image.Image:
    try:
        found = _opener(path)
        if found is None:
            raise OSError("it is no longer a PNG or JPEG file")
        with found[1](path) as image:
            image.load()
    except PILLOW_ERRORS as error:
        raise SlideReadError(
            f"slide {slide_id}: {path} cannot be decoded: {error}. The file is damaged or cut "
            "short: copy it again from where it was made, or leave it out"
        ) from error
    return image


def _opener(path: Path) -> tuple[str, type[ImageFile.ImageFile]] | None:
    with path.open("rb") as file:
        head = file.read(8)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
