"""Files of a sample slide: the slide, its truth and the areas of its classes."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from noctile.pipeline.arrays import UInt8
from sample_slides.recipe import CLASS_NAMES, FAT, LYMPHOCYTES, STROMA, TUMOR
from sample_slides.samples import Sample

JPEG_QUALITY = 80


def write_slide(path: Path, rgb: UInt8, sample: Sample) -> None:
    """Write a pyramid of tiled JPEG levels.

    Each level has a quarter of the rows and columns of the one before, down to 500 px. An ``.svs``
    has Aperio's header and, as its second image, the thumbnail that readers of the format expect. A
    ``.tiff`` states its pixel size in the TIFF resolution tags.

    Args:
        path: the file to write.
        rgb: pixels of level 0, uint8 ``[h, w, 3]``.
        sample: description of the slide.
    """
    levels = [rgb]
    while min(levels[-1].shape[:2]) // 4 >= 500:
        height, width = (side // 4 * 4 for side in levels[-1].shape[:2])
        levels.append(np.asarray(Image.fromarray(levels[-1][:height, :width]).reduce(4)))
    aperio = path.suffix == ".svs"
    side = 240 if aperio else 256
    with tifffile.TiffWriter(path) as tiff:
        for k, level in enumerate(levels):
            own = (
                {"description": _aperio_header(sample, level)}
                if aperio
                else _resolution(sample.mpp * 4**k)
            )
            _append(tiff, level, tile=(side, side), subfiletype=0 if aperio or not k else 1, **own)
            if aperio and not k:
                small = np.asarray(Image.fromarray(rgb).reduce(8))
                _append(
                    tiff,
                    small,
                    rowsperstrip=small.shape[0],
                    description=_aperio_header(sample, small),
                )


def _append(tiff: tifffile.TiffWriter, pixels: UInt8, **tags: Any) -> None:
    """Append a JPEG image (YCbCr 4:2:0), in tiles if ``tags`` has a tile, else as one strip."""
    height, width = tags.get("tile", pixels.shape[:2])
    pad = ((0, -pixels.shape[0] % height), (0, -pixels.shape[1] % width), (0, 0))
    padded = np.pad(pixels, pad, mode="edge")
    parts = (
        bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(padded[y : y + height, x : x + width]),
                level=JPEG_QUALITY,
                colorspace="RGB",
                outcolorspace="YCBCR",
                subsampling="420",
            )
        )
        for y in range(0, padded.shape[0], height)
        for x in range(0, padded.shape[1], width)
    )
    tiff.write(
        parts,
        shape=pixels.shape,
        dtype=np.uint8,
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        metadata=None,
        software=False,
        **tags,
    )


def _resolution(mpp: float) -> dict[str, object]:
    return {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"}


def _aperio_header(sample: Sample, level: UInt8) -> str:
    """Make the image description of an Aperio slide (openslide.org/formats/aperio)."""
    shrunk = "" if level.shape[0] == sample.height else f" -> {level.shape[1]}x{level.shape[0]}"
    size = f"{sample.width}x{sample.height} [0,0 {sample.width}x{sample.height}] (240x240){shrunk}"
    scanner = f"AppMag = {sample.power}|MPP = {sample.mpp:.4f}"
    about = f"{scanner}|Filename = {sample.slide_id}|Title = generated tissue"
    return f"Aperio Image Library v11.2.1 \r\n{size} JPEG/YCbCr Q={JPEG_QUALITY}|{about}"


PALETTE = {
    TUMOR: (200, 30, 45),
    STROMA: (250, 175, 190),
    LYMPHOCYTES: (70, 90, 200),
    FAT: (250, 215, 90),
}


def write_truth(path: Path, truth: UInt8) -> None:
    """Write class codes as a PNG with a palette, which viewers show in colours."""
    colors = np.zeros((256, 3), np.uint8)
    colors[list(PALETTE)] = list(PALETTE.values())
    image = Image.fromarray(truth)
    image.putpalette(colors.tobytes())
    image.save(path, optimize=True)


def areas(sample: Sample, truth: UInt8) -> list[tuple[str, str, str]]:
    """Rows of slide_id, class and area (mm2, six decimals), also for areas of zero."""
    pixel = sample.truth_frame.pixel_area_mm2
    return [
        (sample.slide_id, name, f"{np.sum(truth == k) * pixel:.6f}")
        for k, name in CLASS_NAMES.items()
    ]
