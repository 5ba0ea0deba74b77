"""The first step of a slide: open it, find its tissue, plan its tiles and lay out its stores."""

from dataclasses import asdict

from PIL import Image

from noctile.pipeline.errors import MppImplausibleError
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.normalize import Amounts, stain_amounts
from noctile.pipeline.plan import TilePlan, plan_tiles
from noctile.pipeline.segment import read_tiles
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.fingerprint import mtime_fingerprint
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueMask, find_tissue
from noctile.workflows.jobs.messages import Prepared, RunContext, StepJob
from noctile.workflows.jobs.provenance import describe, provenance
from noctile.workflows.results.files import read_json, sweep, write_atomic, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.staging import clear, remove

MAX_TISSUE_MM = 100.0
"""Largest width of the tissue on a slide (mm; a usual slide is 75 mm long). A larger value means
that the pixel size is wrong."""

_STAIN_TILES = 48
"""Smallest number of tiles on which the stain of a slide is measured; at most twice as many are
read. The cost does not grow with the slide."""

_STAIN_STEP = 4
"""Step between the pixels that are measured in such a tile (px, in both directions)."""


def prepare_slide(job: StepJob) -> Prepared:
    """Plan a slide and lay out its stores in staging, or find that an earlier run has done so.

    A result in ``slides/`` is not changed.

    Raises:
        SlideError: if the slide cannot be opened or read, or if its pixel size is implausible.
        StoreError: if a file of the slide's result cannot be read or written.
    """
    run, slide_id = job.run, job.step.slide_id
    folder = run.results.slide(slide_id)
    reader = open_slide(job.entry.path, slide_id=slide_id, mpp=job.entry.mpp)
    try:
        written = mtime_fingerprint(reader.info.path)
        content = reader.info.fingerprint
        key = run.slide_key(content, written, job.entry.mpp)
        if (read_json(folder.summary) or {}).get("key") == key and folder.complete:
            return Prepared(key, False, True, (), (), content)
        before = _earlier_plan(key, run.results.staged(slide_id), folder)
        plan = before or _plan_slide(reader, key, written, run)
        keys, tiles_of = tuple(b.key for b in plan.blocks), tuple(len(b.tiles) for b in plan.blocks)
        return Prepared(key, before is None, False, keys, tiles_of, content)
    finally:
        reader.close()


def _earlier_plan(key: str, staged: SlideFolder, folder: SlideFolder) -> TilePlan | None:
    """Find the plan that an earlier run made under the same key, with its masks laid out.

    The slide continues in staging. It continues in its result's own folder if all blocks are done
    there and only a measured file is missing.
    """
    if plan := _read_plan(key, staged):
        sweep(staged.path)
        return plan
    if folder.block_stats_file.exists() and (plan := _read_plan(key, folder)):
        remove(staged)
        return plan
    return None


def _read_plan(key: str, folder: SlideFolder) -> TilePlan | None:
    described = read_json(folder.plan) or {}
    laid_out = described.get("key") == key and folder.mask.exists() and folder.heat.exists()
    return TilePlan.from_json(described["plan"]) if laid_out else None


def _plan_slide(reader: SlideReader, key: str, written: str, run: RunContext) -> TilePlan:
    info = reader.info
    folder = run.results.staged(info.slide_id)
    # never finer than the label map, so that every planned block has a label
    mpp = max(run.settings.tissue.mpp, run.card.mpp)
    thumbnail, thumbnail_frame = read_thumbnail(reader, mpp)
    tissue = find_tissue(thumbnail, thumbnail_frame, run.settings.tissue)
    _check_width(tissue, info)
    plan = plan_tiles(info.slide_id, info.frame, tissue, run.settings.tiling(run.card))
    stain = _stain_amounts(reader, plan) if run.card.stain else None
    folder.path.mkdir(parents=True, exist_ok=True)
    clear(folder)
    layout = MaskLayout(plan.frame, plan.block_px, plan.chunk_px, run.card.classes)
    about = provenance(info, run) | {"stain": stain}
    MaskStore.create(folder.mask, layout, thumbnail, thumbnail_frame, about)
    picture = Image.fromarray(tissue.mask).convert("L")
    write_atomic(folder.tissue, lambda p: picture.save(p, optimize=False))
    flags = [*tissue.flags, *reader.flags]
    described = {
        "key": key,
        "slide": describe(info) | {"modified": written},
        "tissue": {
            "frame": asdict(tissue.frame),
            "rule": tissue.rule,
            "flags": flags,
            "area_mm2": round(tissue.area_mm2, 6),
        },
        "stain": stain,
        "plan": plan.to_json(),
    }
    write_json(folder.plan, described)
    return plan


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
