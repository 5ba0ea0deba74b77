"""Region whose classes are known: its files, and its pixels and classes at any pixel size."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from noctile.pipeline.arrays import Float64, UInt8
from noctile.pipeline.errors import SlideError, UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.slides.base import SlideReader
from noctile.pipeline.slides.image import MAX_PIXELS, PILLOW_ERRORS
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.truth.corrections import read_truth
from noctile.pipeline.truth.drawing import draw_codes
from noctile.pipeline.truth.geojson import Annotation, is_geojson
from noctile.pipeline.truth.points import POINT
from noctile.pipeline.truth.scheme import IGNORED, OTHER, OUTSIDE, TUMOR, ClassScheme

NEAR_WHITE = 210
"""Smallest R, G and B of a near-white pixel, which is glass or empty space.

Measured: 5.7 % of the pixels of 32 CAMELYON tiles are near white, and 30 % of these lie inside the
tiles' coarse tumor masks."""

_OPENERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
}
"""First bytes of a mask file, and the class that opens it.

These classes do not apply Pillow's size limit, which is one number for the whole process."""


@dataclass(frozen=True, slots=True)
class Region:
    """Piece of tissue whose classes are known; its pixels are not read yet.

    Attributes:
        region_id: name that is unique in a data set.
        patient: name of the patient; no patient is on two sides of a split.
        institute: tissue source site of TCGA, such as "OL"; "" if it is not known.
        source: name of the region's data source.
        image: path of the image or slide.
        truth: path of the mask image, or of the GeoJSON annotations of a slide.
        mpp: pixel size of the image (um), from its name or its data source; None: the file has it.
        box: part of level 0 that is the region (px); None: all of it.
        binary: true if the mask is black and white (white is tumor) and holds no codes.
        listed: side on which the data set lists the region, or None; splits do not use it.
        ignore_white: true if near-white pixels (`NEAR_WHITE`) are not counted.
        ignore_marked: true if the white pixels of a black and white mask are not counted.
        exported: path of the GeoJSON that was exported from a result and corrected; None if the
            annotations are no correction.
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
    exported: Path | None = None


@dataclass(frozen=True, slots=True)
class LabelledPixels:
    """Pixels of a region with their classes.

    Attributes:
        rgb: pixels as a run reads them, uint8 ``[h, w, 3]``.
        targets: index of each pixel's class or `IGNORED`, uint8 ``[h, w]``.
        mpp: size of a pixel (um), close to the requested one, see `Frame.at`.
        points: points whose discs have a class, float64 ``[n, 2]``, y and x (px of the region);
            None if there are none.
    """

    rgb: UInt8
    targets: UInt8
    mpp: float
    points: Float64 | None = None


def load_region(region: Region, scheme: ClassScheme, mpp: float) -> LabelledPixels:
    """Read a region's pixels and classes.

    The slide readers resample the pixels, as in a run. If the pixel size is a whole multiple of
    the image's (see `Frame.at`), a target pixel has the most frequent class of the pixels that it
    covers. Ignored pixels are a class of their own here, and the first of equally frequent classes
    is taken. Otherwise a target pixel has the class at its centre.

    Args:
        region: the region.
        scheme: class scheme of the targets.
        mpp: pixel size of the result (um).

    Raises:
        UsageError: if a file is missing, cannot be decoded, has another size than its partner, or
            holds codes that the scheme does not know, or if the pixel size is not known.
    """
    with closing(_open(region)) as reader:
        target = reader.info.frame.at(mpp)
        box = _box(region, reader.info.frame, target)
        try:
            rgb = reader.read(box, mpp)
        except SlideError as error:
            raise UsageError(f"region {region.region_id}: {error}") from error
        targets = _targets(region, scheme, reader.info.frame, target, box)
        points = _points(region, reader.info.frame, target, box)
    if region.ignore_white:
        targets[rgb.min(axis=2) >= NEAR_WHITE] = IGNORED
    if len(points):
        y, x = points.astype(int).T
        points = points[targets[y, x] != IGNORED]
    return LabelledPixels(rgb, targets, target.mpp, points if len(points) else None)


def load_targets(region: Region, scheme: ClassScheme, mpp: float) -> UInt8:
    """Read the classes of a region without its pixels.

    Pixels are read only if near-white ones are not counted.

    Args:
        region: the region.
        scheme: class scheme of the targets.
        mpp: pixel size of the result (um).

    Returns:
        The same classes as `load_region` gives, uint8 ``[h, w]``.

    Raises:
        UsageError: in the cases of `load_region`.
    """
    if region.ignore_white:
        return load_region(region, scheme, mpp).targets
    with closing(_open(region)) as reader:
        frame = reader.info.frame
    target = frame.at(mpp)
    return _targets(region, scheme, frame, target, _box(region, frame, target))


def read_mask(path: Path) -> UInt8:
    """Read the values of a mask image: codes, or 0 to 255 in a black and white mask.

    The values of a palette image are its indices. A colour image is a mask only if R, G and B are
    equal, or if it is a JPEG.

    Returns:
        uint8 ``[h, w]``.

    Raises:
        UsageError: if the file is missing, cannot be decoded, is too large, or does not hold one
            value for each pixel.
    """
    try:
        image = _decode(path)
    except PILLOW_ERRORS as error:
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
            f"mask {path} is of mode {image.mode} with values from {values.min()} to "
            f"{values.max()}; a mask has one value from 0 to 255 for each pixel. Save it as a grey "
            "or palette PNG whose values are the codes"
        )
    return values.astype(np.uint8)


def _decode(path: Path) -> Image.Image:
    """Decode a mask image with the opener for its first bytes."""
    with path.open("rb") as file:
        head = file.read(4)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        raise ValueError("it is neither PNG, JPEG nor TIFF")
    with opener(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"it has {image.width} x {image.height} pixels, more than the limit {MAX_PIXELS}"
            )
        image.load()
    return image


def _open(region: Region) -> SlideReader:
    """Open the image of a region."""
    try:
        return open_slide(region.image, slide_id=region.region_id, mpp=region.mpp)
    except SlideError as error:
        raise UsageError(f"region {region.region_id}: {error}") from error


def _box(region: Region, frame: Frame, target: Frame) -> Box:
    """Box of a region in the pixels of ``target``."""
    if region.box is None:
        return target.box
    inside = region.box.intersect(frame.box)
    if not inside.area:
        raise UsageError(
            f"region {region.region_id}: its annotations in {region.truth} span {region.box}, "
            f"outside of {region.image}, which has {frame.extent}. Check that they belong to this "
            "slide and count pixels of level 0"
        )
    return frame.project(inside, target).intersect(target.box)


def _targets(region: Region, scheme: ClassScheme, frame: Frame, target: Frame, box: Box) -> UInt8:
    """Classes of the pixels ``box`` of frame ``target``; ``frame`` is the frame of the image."""
    if is_geojson(region.truth):
        origin = f"annotations {region.truth}"
        annotations = read_truth(region.truth, region.exported)
        _check_sparse(region, annotations, scheme)
        codes = draw_codes(annotations, scheme, frame, target, box, origin)
        return scheme.targets(codes, origin)
    values = read_mask(region.truth)
    if Extent(*values.shape) != frame.extent:
        raise UsageError(
            f"region {region.region_id}: mask {region.truth} has {values.shape[1]} x "
            f"{values.shape[0]} pixels, but its image {region.image} has {frame.extent.width} x "
            f"{frame.extent.height}. Give a mask of the image's size"
        )
    codes = _tumor_or_other(region, scheme, values) if region.binary else values
    return _resample(scheme.targets(codes, f"mask {region.truth}"), frame, target)


def _points(region: Region, frame: Frame, target: Frame, box: Box) -> Float64:
    """Points of a region's annotations, float64 ``[n, 2]``, y and x (px of the region)."""
    if not is_geojson(region.truth):
        return np.zeros((0, 2))
    annotations = read_truth(region.truth, region.exported)
    points = np.array([a.point for a in annotations if a.point is not None]).reshape(-1, 2)
    points = points * [frame.mpp_y / target.mpp_y, frame.mpp_x / target.mpp_x] - [box.y, box.x]
    return points[((points >= 0) & (points < [box.height, box.width])).all(axis=1)]


def _check_sparse(region: Region, annotations: Sequence[Annotation], scheme: ClassScheme) -> None:
    """Check that the pixels around corrections and points are ignored.

    Raises:
        UsageError: if the scheme counts them as a class, or has too many classes for points.
    """
    points = any(annotation.point is not None for annotation in annotations)
    if points and len(scheme.classes) >= POINT:
        raise UsageError(
            f"region {region.region_id}: class scheme {scheme.name} has {len(scheme.classes)} "
            f"classes; with points at most {POINT - 1} can be trained. Leave the points out"
        )
    if (points or region.exported) and scheme.sources.get(OUTSIDE) != IGNORED:
        raise UsageError(
            f"region {region.region_id}: class scheme {scheme.name} counts code {OUTSIDE} as a "
            "class, but around points and corrections this code stands for tissue that was not "
            f"checked. Put {OUTSIDE} into its ignore"
        )


def _tumor_or_other(region: Region, scheme: ClassScheme, values: UInt8) -> UInt8:
    """Codes of a black and white mask: white is tumor, or is not counted; black is other.

    Values above 127 are white. In a file of only 0 and 1 that is no JPEG, 1 is white.
    """
    sides = {scheme.sources.get(TUMOR, IGNORED), scheme.sources.get(OTHER, IGNORED)}
    if len(scheme.classes) != 2 or len(sides - {IGNORED}) != 2:
        raise UsageError(
            f"region {region.region_id}: {region.truth} holds tumor or not, which is too little "
            f"for the {len(scheme.classes)} classes of scheme {scheme.name}. Use --classes tumor, "
            "or masks with codes"
        )
    threshold = 0 if values.max() <= 1 and not is_lossy(region.truth) else 127
    return np.where(
        values > threshold, np.uint8(OUTSIDE if region.ignore_marked else TUMOR), np.uint8(OTHER)
    )


def is_lossy(path: Path) -> bool:
    """True if a mask is a JPEG, which changes codes."""
    return path.suffix.lower() in (".jpg", ".jpeg")


def _resample(classes: UInt8, frame: Frame, target: Frame) -> UInt8:
    """Resample classes from the pixels of ``frame`` to those of ``target``."""
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
    """Most frequent value of each ``factor x factor`` block; blocks at the edge may be smaller."""
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
