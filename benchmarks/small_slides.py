"""Small slides in every layout that is read."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

_LAYOUTS: dict[str, dict[str, Any]] = {
    "ycbcr": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg2000": {"compression": "jpeg2000"},
    "aperio-jpeg2000": {
        "compression": 33005,
        "description": "Aperio Image Library v11\n1x1 (64x64)|AppMag = 40|MPP = 0.5",
    },
    "webp": {"compression": "webp"},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "deflate"},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "plain-strips": {"tile": None, "rowsperstrip": 16},
    "jpeg-strips": {"compression": "jpeg", "tile": None, "rowsperstrip": 32},
    "planes": {"planarconfig": "separate", "compression": "deflate"},
}


def small_slides(folder: Path) -> list[Path]:
    """Write slides of 300 x 400 px in every layout that is read, and a PNG and a JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(90, 255, (30, 40, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((400, 300), Image.Resampling.BICUBIC))
    for name, options in _LAYOUTS.items():
        _write(folder / f"{name}.tif", pixels, options)
    for name, file in (("big", {"bigtiff": True}), ("motorola", {"byteorder": ">"})):
        _write(folder / f"{name}.tif", pixels, {"compression": "jpeg"}, **file)
    with tifffile.TiffWriter(folder / "pyramid.ome.tif", ome=True) as tiff:
        about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} | {
            f"PhysicalSize{axis}Unit": "\u00b5m" for axis in "XY"
        }
        tiff.write(
            pixels, tile=(64, 64), compression="jpeg", subifds=1, metadata=about, photometric="rgb"
        )
        tiff.write(
            pixels[::2, ::2], tile=(64, 64), compression="jpeg", subfiletype=1, photometric="rgb"
        )
    (folder / "region_MPP-0.5.png").write_bytes(imagecodecs.png_encode(pixels))
    (folder / "region_MPP-0.5.jpg").write_bytes(imagecodecs.jpeg_encode(pixels))
    return sorted(folder.iterdir())


def _write(path: Path, pixels: np.ndarray[Any, Any], options: dict[str, Any], **file: Any) -> None:
    about: dict[str, Any] = {
        "resolution": (20_000, 20_000),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
    }
    with tifffile.TiffWriter(path, **file) as tiff:
        for k, level in enumerate((pixels, pixels[::2, ::2])):
            shape = {"tile": (64, 64), "photometric": "rgb", "subfiletype": 1 if k else 0}
            layout: dict[str, Any] = {
                name: value for name, value in (shape | options).items() if value is not None
            }
            data = np.moveaxis(level, -1, 0) if options.get("planarconfig") == "separate" else level
            tiff.write(data, **about, **layout)
