"""Plan of a slide from its pixels: find the tissue, lay out the tiles, measure the stain."""

from dataclasses import dataclass

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import MppImplausibleError
from noctile.pipeline.geometry import Frame
from noctile.pipeline.normalize import Amounts, stain_amounts
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles
from noctile.pipeline.roi.confine import confine, given_roi, given_tissue
from noctile.pipeline.roi.confinement import Confinement
from noctile.pipeline.roi.regions import Roi
from noctile.pipeline.segment import read_tiles
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue
from noctile.pipeline.tissue_mask import TissueMask

MAX_TISSUE_MM = 100.0
"""Largest width of the tissue on a slide (mm; a usual slide is 75 mm long). A larger value means
that the pixel size is wrong."""

_STAIN_TILES = 48
"""Smallest number of tiles on which the stain of a slide is measured; at most twice as many are
read. The cost does not grow with the slide."""

_STAIN_STEP = 4
"""Step between the pixels that are measured in such a tile (px, in both directions)."""


@dataclass(frozen=True, slots=True, eq=False)
class SlidePlan:
    """Everything that is found out about a slide before its blocks are segmented.

    Attributes:
        tiles: plan of the tiles and blocks.
        tissue: tissue of the slide.
        stain: amounts of stain; None if the model does not use them, or no tile can be read.
        thumbnail: uint8 ``[h, w, 3]``, the slide at the pixel size of the tissue search.
        thumbnail_frame: frame of the thumbnail.
        roi: regions of interest to which ``tissue`` is confined, or None.
    """

    tiles: TilePlan
    tissue: TissueMask
    stain: Amounts | None
    thumbnail: UInt8
    thumbnail_frame: Frame
    roi: Roi | None = None


def plan_slide(
    reader: SlideReader,
    spec: TissueSpec,
    tiling: Tiling,
    *,
    measure_stain: bool,
    confined: Confinement | None = None,
) -> SlidePlan:
    """Plan a slide. The stain is measured on the tiles of the plan, so inside regions only.

    Args:
        reader: the open slide.
        spec: settings of the tissue search.
        tiling: settings of tiles and blocks.
        measure_stain: True for a model that uses the amounts of stain.
        confined: region of interest and tissue mask that the user gives for the slide.

    Raises:
        MppImplausibleError: if the tissue is wider than a slide.
        RoiError: if the region of interest cannot be used.
        TissueMaskError: if the tissue mask cannot be used.
        SlideReadError: if the thumbnail cannot be decoded.
        UsageError: if tile and overlap do not fit together.
    """
    info, confined = reader.info, confined or Confinement()
    roi = given_roi(confined, info.frame)
    # never finer than the label map, so that every planned block has a label
    thumbnail, thumbnail_frame = read_thumbnail(reader, max(spec.mpp, tiling.mpp))
    given = given_tissue(confined, info, thumbnail_frame, info.frame.at(tiling.mpp))
    tissue = given or find_tissue(thumbnail, thumbnail_frame, spec)
    _check_width(tissue, info)
    if roi:
        tissue = confine(tissue, roi)
    plan = plan_tiles(info.slide_id, info.frame, tissue, tiling)
    stain = _stain_amounts(reader, plan) if measure_stain else None
    return SlidePlan(plan, tissue, stain, thumbnail, thumbnail_frame, roi)


def _check_width(tissue: TissueMask, info: SlideInfo) -> None:
    """Check that the tissue fits on a slide at the slide's pixel size.

    Raises:
        MppImplausibleError: if it does not.
    """
    if tissue.width_mm > MAX_TISSUE_MM:
        raise MppImplausibleError(
            f"{info.path}: at {info.frame.mpp:.4g} um/px ({info.mpp_source}) its tissue would be "
            f"{tissue.width_mm:.0f} mm wide, more than a slide holds ({MAX_TISSUE_MM:.0f} mm); "
            "pass the true pixel size with --mpp or in the manifest"
        )


def _stain_amounts(reader: SlideReader, plan: TilePlan) -> Amounts | None:
    """Measure the stain on tiles spread evenly over the tissue; None if no tile can be read."""
    spread = plan.tiles[:: max(1, len(plan.tiles) // _STAIN_TILES)]
    tiles = read_tiles(reader, plan, spread)
    return stain_amounts(pixels[::_STAIN_STEP, ::_STAIN_STEP] for _, pixels in tiles)
