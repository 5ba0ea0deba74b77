"""Tissue mask that the user gives for a slide: a picture, or a mask that Noctile has made."""

import math
from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import Bool
from noctile.pipeline.errors import StoreError, TissueMaskError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.provenance import read_provenance
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.roi.confinement import mask_folder
from noctile.pipeline.roi.mask_image import MAX_PIXELS, read_mask_image
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.tissue_mask import TissueMask

GIVEN_FLAG = "tissue_mask_given"
"""Quality flag of a slide whose tissue was not searched for."""

ASPECT_TOLERANCE = 0.01
"""Largest relative difference between the ratios of sides of a picture and of its slide. A side of
a small picture may also differ by a pixel, because it is rounded."""


def read_given_mask(path: Path, info: SlideInfo, coarsest: Frame, finest: Frame) -> TissueMask:
    """Read the tissue mask that the user gives for a slide.

    Args:
        path: a picture of the whole scanned region, see `read_mask_image`; or the folder
            ``mask.ome.zarr`` of a result of the same slide, or the folder that holds it, whose
            analysed pixels are tissue.
        info: description of the slide.
        coarsest: frame of the slide's thumbnail. The pixels of a coarser mask are divided, so that
            tiles are planned as near to a region of interest as without a mask.
        finest: frame of the label map; a finer mask is read at its pixels' centres.

    Raises:
        TissueMaskError: if it cannot be read, marks nothing, or is that of another slide.
    """
    folder = mask_folder(path)
    marked, frame = _noctile_mask(folder, path, info, finest) if folder else _picture(path, info)
    if not marked.any():
        raise TissueMaskError(f"tissue mask {path} marks no tissue: all its pixels are 0")
    rule = f"tissue mask of the manifest: {path.name}"
    tissue = TissueMask(marked, frame, rule, (GIVEN_FLAG,))
    if min(frame.mpp_y / finest.mpp_y, frame.mpp_x / finest.mpp_x) < 1:
        fine = tissue.on(finest.box, finest)
        return TissueMask(fine, finest, rule, (GIVEN_FLAG,))
    return _divided(tissue, math.ceil(frame.mpp / coarsest.mpp - ASPECT_TOLERANCE))


def _divided(tissue: TissueMask, parts: int) -> TissueMask:
    """Divide each pixel of a mask into ``parts`` x ``parts``, which changes no place of tissue."""
    if parts <= 1:
        return tissue
    mask, frame = tissue.mask.repeat(parts, axis=0).repeat(parts, axis=1), tissue.frame
    fine = Frame(Extent(*mask.shape), frame.mpp_y / parts, frame.mpp_x / parts)
    return TissueMask(mask, fine, tissue.rule, tissue.flags)


def _picture(path: Path, info: SlideInfo) -> tuple[Bool, Frame]:
    """Read a picture, stretched over the scanned region, and its frame.

    Raises:
        TissueMaskError: if its sides have another ratio than those of the slide.
    """
    marked, native = read_mask_image(path), info.frame
    (height, width), extent = marked.shape, native.extent
    step_y, step_x = extent.height / height, extent.width / width
    tolerance = ASPECT_TOLERANCE + 1 / height + 1 / width
    ratios = step_y / step_x, step_y * native.mpp_y / (step_x * native.mpp_x)
    if min(abs(ratio - 1) for ratio in ratios) > tolerance:
        raise TissueMaskError(
            f"tissue mask {path} has {height} x {width} px, but the slide {extent.height} x "
            f"{extent.width} (height x width): the sides have another ratio. It is the mask of "
            "another slide, or does not show the whole scanned region"
        )
    return marked, Frame(Extent(height, width), native.mpp_y * step_y, native.mpp_x * step_x)


def _noctile_mask(folder: Path, path: Path, info: SlideInfo, finest: Frame) -> tuple[Bool, Frame]:
    """Read the analysed pixels of a result's label map, and their frame.

    The finest level is read that is not finer than this run's and fits into memory.

    Raises:
        TissueMaskError: if it cannot be read, or is that of another slide.
    """
    try:
        store, about = MaskStore.open(folder), read_provenance(folder).get("slide") or {}
        if about.get("fingerprint") != info.fingerprint:
            raise TissueMaskError(
                f"tissue mask {path} was made from another slide ({about.get('path')}) than "
                f"{info.path}; name the mask of this slide"
            )
        frames = store.layout.level_frames
        fits = [
            level
            for level, frame in enumerate(frames)
            if frame.extent.area <= MAX_PIXELS and frame.mpp >= finest.mpp * 0.98
        ]
        level = fits[0] if fits else len(frames) - 1
        if frames[level].extent.area > MAX_PIXELS:
            raise TissueMaskError(f"tissue mask {path} has no level of at most {MAX_PIXELS} px")
        return np.asarray(store.read_level(level) > 0), frames[level]
    except (StoreError, AttributeError, TypeError, ValueError) as error:
        raise TissueMaskError(f"tissue mask {path} cannot be read: {error}") from error
