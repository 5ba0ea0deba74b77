"""Plain PNG and JPEG images as slides of one level: regions and tiles that somebody cut out of
slides.

Plain TIFF needs nothing of this: tiffslide reads it. The density tags of PNG and JPEG (72 or 96
dpi) say how large an image is on paper; how large a pixel was on the glass comes from the call, the
manifest or the file's name.
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
"""What names a plain image where nobody looks inside."""

MAX_PIXELS = 500_000_000
"""Largest image that is decoded (px): 2 GB in memory. The largest BCSS region has 126 million. (its
roiBounds.csv)"""

_OPENERS: dict[bytes, tuple[str, type[ImageFile.ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": ("png", PngImageFile),
    b"\xff\xd8\xff": ("jpeg", JpegImageFile),
}
"""First bytes, name and opener of each format. The openers themselves know no size limit but ours,
whereas Pillow's own (`Image.open`) is one number for the whole process."""

_STREAMS: dict[bytes, type[ImageFile.ImageFile]] = {
    **{magic: opener for magic, (_, opener) in _OPENERS.items()},
    b"\xff\x4f\xff\x51": Jpeg2KImageFile,
    b"\0\0\0\x0cjP  ": Jpeg2KImageFile,
    b"RIFF": WebPImageFile,
}
"""First bytes and opener of the streams that stand in TIFF and say how large they are."""

_CODECS = {"png": "deflate", "jpeg": "jpeg"}

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
"""Pillow's modes of at most 8 bits that show as grey or RGB; the rest is 16-bit grey (I;16), CMYK
and the like."""

_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on files that are damaged or cut short; a broken PNG is a SyntaxError."""

_NAMED_MPP = re.compile(r"_MPP-(\d+(?:\.\d+)?)(?![\d.]*\d)", re.IGNORECASE)


def is_image(path: Path) -> bool:
    """Whether a file begins as PNG or JPEG does.

    Raises:
        OSError: if it cannot be read.
    """
    return _opener(path) is not None


def claimed_pixels(stream: bytes) -> int:
    """How many pixels (px) an encoded image says that it has; 0 where that cannot be told. Nothing
    is decoded.
    """
    opener = next((opener for magic, opener in _STREAMS.items() if stream.startswith(magic)), None)
    if opener is None:
        return 0
    try:
        with opener(io.BytesIO(stream)) as image:
            return image.width * image.height
    except _ERRORS:
        return 0


def mpp_from_name(name: str) -> float | None:
    """The pixel size (um) in a name such as
    ``TCGA-A2-A0CM-DX1_xmin18562_ymin56852_MPP-0.2500.png``, or None.

    So BCSS names its regions. (Amgad et al. 2019, github.com/PathologyDataScience/BCSS)
    """
    found = _NAMED_MPP.findall(name)
    return float(found[-1]) or None if found else None


class ImageSource:
    """A `PixelSource` over a PNG or JPEG file, which is decoded once, at the first read.

    Palettes and greys show as RGB, transparent pixels as white, 16-bit colours by their upper 8
    bits. Pixels stand as they are stored: an EXIF tag that asks viewers to turn a photograph is not
    followed, because masks and annotations of an image count its stored rows and columns.

    Args:
        path: the file.
        slide_id: for messages.

    Raises:
        SlideOpenError: if it is no PNG or JPEG of at most `MAX_PIXELS` that shows as 8-bit grey or
            RGB.
        OSError: if it cannot be read.
    """

    def __init__(self, path: Path, slide_id: str) -> None:
        self._path, self._slide_id = path, slide_id
        self._lock = threading.Lock()
        self._image: Image.Image | None = None
        self.info = _source_info(path, slide_id)

    def fetch(self, level: int, box: Box) -> UInt8:  # noqa: ARG002 - there is one level
        """Pixels, uint8 ``[box.height, box.width, 3]``, RGB on white.

        Raises:
            SlideReadError: if the file cannot be decoded.
        """
        part = self._decoded().crop((box.x, box.y, box.x_stop, box.y_stop))
        return on_white(part.convert("RGBA") if part.has_transparency_data else part)

    def forget(self) -> None:
        """Nothing: the image is decoded once."""

    def close(self) -> None:
        """Forget the pixels."""
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
    except _ERRORS as error:
        raise SlideOpenError(
            f"slide {slide_id}: {path} begins as {format_name.upper()} but cannot be opened: {error}. Copy it again "
            "from where it was made, or leave it out"
        ) from error
    if height * width > MAX_PIXELS:
        raise SlideOpenError(
            f"slide {slide_id}: {path} has {width} x {height} pixels, more than are decoded at once ({MAX_PIXELS}). "
            "Convert it to a tiled TIFF"
        )
    if mode not in _MODES:
        raise SlideOpenError(
            f"slide {slide_id}: the pixels of {path} are of mode {mode}; 8-bit grey or RGB is needed. Save it as such"
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
    except _ERRORS as error:
        raise SlideReadError(
            f"slide {slide_id}: {path} cannot be decoded: {error}. The file is damaged or cut short: copy it again "
            "from where it was made, or leave it out"
        ) from error
    return image


def _opener(path: Path) -> tuple[str, type[ImageFile.ImageFile]] | None:
    with path.open("rb") as file:
        head = file.read(8)
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
