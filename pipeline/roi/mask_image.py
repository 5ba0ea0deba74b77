"""Pictures that mark tissue: PNG, TIFF and JPEG of any scale, read within limits on memory."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from noctile.pipeline.arrays import Bool
from noctile.pipeline.errors import TissueMaskError
from noctile.pipeline.slides.image import PILLOW_ERRORS
from noctile.pipeline.untrusted import read_bytes

MAX_BYTES, MAX_PIXELS = 2**28, 2**26
"""Largest file of a picture (B), and largest picture that is decoded (px): 8192 x 8192, at which a
slide of 50 x 25 mm has pixels of 6 um."""

_OPENERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
"""First bytes and opener of each format. The openers have no limit on the size, so that only
`MAX_PIXELS` applies."""

_JPEG_LEVEL = 128
"""Level from which a pixel of a JPEG is tissue (0..255): compression makes black pixels grey."""

_MOST_PAGES = 64
"""Most pages of a TIFF file that are looked at: the levels of a pyramid."""


def read_mask_image(path: Path) -> Bool:
    """Read a picture that marks tissue.

    Pixels that are not 0 are tissue, in any channel but that of transparency; transparent ones are
    none. In a JPEG they are those from 128 on. Of a pyramid in a TIFF file, the finest level of at
    most `MAX_PIXELS` is read.

    Returns:
        bool ``[h, w]``.

    Raises:
        TissueMaskError: if it cannot be read, or is too large.
    """
    try:
        content = read_bytes(path, MAX_BYTES)
        opener = next((o for magic, o in _OPENERS.items() if content.startswith(magic)), None)
        if opener is None:
            raise ValueError("it is no PNG, TIFF or JPEG")
        with (  # warnings about sizes and broken tags
            warnings.catch_warnings(action="ignore"),
            opener(io.BytesIO(content)) as image,
        ):
            _seek_level(image)
            image.load()
            return _marked(image, is_jpeg=opener is JpegImageFile)
    except (*PILLOW_ERRORS, Image.DecompressionBombError, MemoryError) as error:
        raise TissueMaskError(
            f"tissue mask {path} cannot be read: {error}. Write it again as PNG"
        ) from error


def _seek_level(image: ImageFile.ImageFile) -> None:
    """Go to the largest page that is not too large.

    Raises:
        ValueError: if all are too large.
    """
    sizes = {}
    for page in range(min(getattr(image, "n_frames", 1), _MOST_PAGES)):
        try:
            image.seek(page)
        except Image.DecompressionBombError:
            continue
        sizes[page] = image.width * image.height
    fits = [page for page, size in sizes.items() if 0 < size <= MAX_PIXELS]
    if not fits:
        found = f"{image.height} x {image.width} px"
        raise ValueError(f"it has {found}, more than {MAX_PIXELS} px; write it at a coarser scale")
    image.seek(max(fits, key=lambda page: (sizes[page], -page)))


def _marked(image: Image.Image, *, is_jpeg: bool) -> Bool:
    """Find the pixels of a picture that mark tissue."""
    if is_jpeg:
        return np.asarray(image.convert("L")) >= _JPEG_LEVEL
    values = np.asarray(image)
    if image.mode not in ("LA", "PA", "RGBA"):
        return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)
    return np.asarray(values[..., :-1].any(axis=2) & (values[..., -1] != 0))
