"""One region whose classes are known: where it lies, and its pixels beside their classes at any
pixel size.
"""

import struct
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import SlideError, UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.image import MAX_PIXELS
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.truth.geojson import draw, is_geojson, read_annotations
from noctile.pipeline.truth.scheme import IGNORED, OTHER, OUTSIDE, TUMOR, ClassScheme

NEAR_WHITE = 210
"""A pixel whose R, G and B all reach this is glass or empty space: 5.7 % of 32 CAMELYON tiles, of
which 30 % lie inside their coarse tumor masks. (measured)"""

_OPENERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
}
"""First bytes of a mask and what opens it, without Pillow's size limit, which is one number for the
whole process."""

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


@dataclass(frozen=True, slots=True)
class Region:
    """A piece of tissue whose classes are known. Nothing of it is read yet.

    Attributes:
        region_id: unique in a data set.
        patient: no patient is ever on two sides of a split.
        institute: TCGA's tissue source site ("OL"); "" where unknown.
        source: name of the data source that it came from.
        image: image or slide.
        truth: mask image, or GeoJSON annotations of a slide.
        mpp: pixel size of the image (um) where its name or the source says it; None leaves it to
            the file.
        box: the part of level 0 that is the region (px); None: all of it.
        binary: the mask says tumor or not (white or black), not codes.
        listed: the side on which the data set itself lists it, or None; a record, which no split
            believes.
        ignore_white: near-white pixels count nowhere (`NEAR_WHITE`).
        ignore_marked: what a black and white mask marks counts nowhere.
    """

    region_id: str
    patient: str
    institute: str
    source: str
    image: Path
    truth: Path
    mpp: float | None = None
    box: Box | None = None
    binary: bool = False
    listed: str | None = None
    ignore_white: bool = False
    ignore_marked: bool = False


@dataclass(frozen=True, slots=True)
class LabelledPixels:
    """Pixels of a region and what they are.

    Attributes:
        rgb: uint8 ``[h, w, 3]``, as a run sees them.
        targets: uint8 ``[h, w]``, index of a class or `IGNORED`.
        mpp: size of a pixel (um): close to what was asked for, see `Frame.at`.
    """

    rgb: UInt8
    targets: UInt8
    mpp: float


def load_region(region: Region, scheme: ClassScheme, mpp: float) -> LabelledPixels:
    """Read a region's pixels and classes, both at ``mpp`` (um).

    Pixels are resampled by the slide readers, exactly as in a run. Where the image's pixel grid is
    kept (a whole factor, see `Frame.at`), a target pixel takes the class that most of the pixels
    under it have, ignored ones counted as a class of their own; a tie goes to the class that stands
    first. Otherwise it takes the class under its centre.

    Raises:
        UsageError: if a file is missing, cannot be decoded, has another size than its partner,
            holds codes that the scheme does not know, or nothing says how large a pixel is.
    """
    with closing(_open(region)) as reader:
        target = reader.info.frame.at(mpp)
        box = _box(region, reader.info.frame, target)
        try:
            rgb = reader.read(box, mpp)
        except SlideError as error:
            raise UsageError(f"region {region.region_id}: {error}") from error
        targets = _targets(region, scheme, reader.info.frame, target, box)
    if region.ignore_white:
        targets[rgb.min(axis=2) >= NEAR_WHITE] = IGNORED
    return LabelledPixels(rgb, targets, target.mpp)


def load_targets(region: Region, scheme: ClassScheme, mpp: float) -> UInt8:
    """The classes alone, as in `load_region`; the image's pixels are read only where white ones are
    ignored.

    Raises:
        UsageError: as `load_region` does.
    """
    if region.ignore_white:
        return load_region(region, scheme, mpp).targets
    with closing(_open(region)) as reader:
        frame = reader.info.frame
    target = frame.at(mpp)
    return _targets(region, scheme, frame, target, _box(region, frame, target))


def read_mask(path: Path) -> UInt8:
    """The values of a mask image as they stand in the file: codes, or 0 to 255 in a black and white
    one.

    A palette's indices are its values. Colour images are masks only where R, G and B are the same,
    or in JPEG.

    Raises:
        UsageError: if the file is missing, cannot be decoded, is too large, or does not hold one
            value a pixel.
    """
    try:
        image = _decode(path)
    except _ERRORS as error:
        raise UsageError(
            f"mask {path} cannot be read: {error}. Copy it again, or leave the region out"
        ) from error
    values = np.asarray(image.convert("L") if is_lossy(path) or image.mode == "1" else image)
    if (
        image.mode in ("RGB", "RGBA")
        and values.ndim == 3
        and (values[..., :1] == values[..., :3]).all()
    ):
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "ui" or values.min() < 0 or values.max() > 255:
        raise UsageError(
            f"mask {path} is of mode {image.mode} with values from {values.min()} to {values.max()}; a mask has one "
            "value from 0 to 255 a pixel. Save it as a grey or palette PNG whose values are the codes"
        )
    return values.astype(np.uint8)


def _decode(path: Path) -> Image.Image:
    with path.open("rb") as file:
        head = file.read(4)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        raise ValueError("it is neither PNG, JPEG nor TIFF")
    with opener(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"it has {image.width} x {image.height} pixels, more than are decoded at once"
            )
        image.load()
    return image


def _open(region: Region) -> SlideReader:
    try:
        return open_slide(region.image, slide_id=region.region_id, mpp=region.mpp)
    except SlideError as error:
        raise UsageError(f"region {region.region_id}: {error}") from error


def _box(region: Region, frame: Frame, target: Frame) -> Box:
    """The region in the pixels of ``target``."""
    if region.box is None:
        return target.box
    inside = region.box.intersect(frame.box)
    if not inside.area:
        raise UsageError(
            f"region {region.region_id}: its annotations in {region.truth} span {region.box}, outside of "
            f"{region.image}, which has {frame.extent}. They may be of another slide, or not in pixels of level 0"
        )
    return frame.project(inside, target).intersect(target.box)


def _targets(region: Region, scheme: ClassScheme, frame: Frame, target: Frame, box: Box) -> UInt8:
    """Classes of the pixels ``box`` of frame ``target``; ``frame`` is the image's."""
    if is_geojson(region.truth):
        where = f"annotations {region.truth}"
        return scheme.targets(
            draw(read_annotations(region.truth), scheme, frame, target, box, where), where
        )
    values = read_mask(region.truth)
    if Extent(*values.shape) != frame.extent:
        raise UsageError(
            f"region {region.region_id}: mask {region.truth} has {values.shape[1]} x {values.shape[0]} pixels, its "
            f"image {region.image} {frame.extent.width} x {frame.extent.height}; a mask has its image's size"
        )
    codes = _tumor_or_other(region, scheme, values) if region.binary else values
    return _resample(scheme.targets(codes, f"mask {region.truth}"), frame, target)


def _tumor_or_other(region: Region, scheme: ClassScheme, values: UInt8) -> UInt8:
    """Codes of a black and white mask: white is tumor, or counts nowhere, black is other.

    White is above 127; where the file holds only 0 and 1, and was not lossy, it is 1.
    """
    sides = {scheme.sources.get(TUMOR, IGNORED), scheme.sources.get(OTHER, IGNORED)}
    if len(scheme.classes) != 2 or len(sides - {IGNORED}) != 2:
        raise UsageError(
            f"region {region.region_id}: {region.truth} says tumor or not, and class scheme {scheme.name} has "
            f"{len(scheme.classes)} classes that it cannot tell apart; use --classes tumor, or masks with codes"
        )
    threshold = 0 if values.max() <= 1 and not is_lossy(region.truth) else 127
    return np.where(
        values > threshold, np.uint8(OUTSIDE if region.ignore_marked else TUMOR), np.uint8(OTHER)
    )


def is_lossy(path: Path) -> bool:
    """Whether a mask is a JPEG, in which codes do not survive."""
    return path.suffix.lower() in (".jpg", ".jpeg")


def _resample(classes: UInt8, frame: Frame, target: Frame) -> UInt8:
    """Classes of ``frame`` at the pixels of ``target``."""
    if target.extent == frame.extent:
        return classes
    factor = round(target.mpp / frame.mpp)
    if factor > 1 and target == frame.coarser(factor):
        return _majority(classes, factor)
    rows, cols = (
        np.minimum(((np.arange(n) + 0.5) * ratio).astype(int), length - 1)
        for n, ratio, length in (
            (target.extent.height, target.mpp_y / frame.mpp_y, frame.extent.height),
            (target.extent.width, target.mpp_x / frame.mpp_x, frame.extent.width),
        )
    )
    return classes[np.ix_(rows, cols)]


def _majority(classes: UInt8, factor: int) -> UInt8:
    """The most frequent value of each ``factor x factor`` block; blocks at the edge count the
    pixels that they have.
    """
    height, width = (-(-side // factor) for side in classes.shape)
    best = np.zeros((height, width), np.uint8)
    most = np.zeros((height, width), np.uint16)
    for value in np.flatnonzero(Image.fromarray(classes).histogram()):
        here, count = classes == value, np.zeros_like(most)
        for y, x in np.ndindex(factor, factor):
            part = here[y::factor, x::factor]
            count[: part.shape[0], : part.shape[1]] += part
        best[count > most] = value
        np.maximum(most, count, out=most)
    return best
