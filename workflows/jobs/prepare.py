"""The first step of a slide: open it, find its tissue, plan its tiles and lay out its stores."""

from collections.abc import Mapping
from dataclasses import asdict

from PIL import Image

from noctile.pipeline.errors import MppImplausibleError, StoreError
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
from noctile.workflows.results.blocks import block_faults
from noctile.workflows.results.checksums import kept_files, slide_fault, wrong_size
from noctile.workflows.results.durable import sync_folder, sync_names, sync_tree
from noctile.workflows.results.files import read_whole_json, sweep, write_atomic, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.staging import clear, remove

MAX_TISSUE_MM = 100.0
"""Largest width of the tissue on a slide (mm; a usual slide is 75 mm long). A larger value means
that the pixel size is wrong."""

_Earlier = tuple[TilePlan, Mapping[tuple[int, int], str]] | None
"""Plan of an earlier run, and what is wrong with each block that is not written whole."""

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
        summary, fault = read_whole_json(folder.summary), slide_fault(folder)
        if fault is None and summary and summary.get("key") == key:
            return Prepared(key, False, True, (), (), content)
        before, damaged = _earlier_plan(key, run.results.staged(slide_id), folder)
        plan, faults = before or (_plan_slide(reader, key, written, run), {})
        if fault and folder.plan.exists() and (not summary or summary.get("key") == key):
            damaged = damaged or f"{folder.path}: {fault}"
        keys, tiles_of = tuple(b.key for b in plan.blocks), tuple(len(b.tiles) for b in plan.blocks)
        return Prepared(key, before is None, False, keys, tiles_of, content, faults, damaged)
    finally:
        reader.close()


def _earlier_plan(key: str, staged: SlideFolder, folder: SlideFolder) -> tuple[_Earlier, str]:
    """Find the plan that an earlier run made under the same key, with its masks laid out.

    The slide continues in staging. It continues in its result's own folder if all blocks are whole
    there and only a measured file is missing or damaged.

    Returns:
        the plan, with the fault of each block that is not written whole, or None; and what is
        wrong with files in staging that cannot be used ("" if nothing is).
    """
    earlier, damaged = _read_plan(key, staged)
    if earlier:
        sweep(staged.path)
        sync_folder(staged.path)  # the run that wrote the plan may have been killed before its sync
        return earlier, ""
    if folder.block_stats_file.exists():
        done, _ = _read_plan(key, folder)
        if done and not done[1]:
            remove(staged)
            return done, ""
    return None, damaged


def _read_plan(key: str, folder: SlideFolder) -> tuple[_Earlier, str]:
    """Read a plan and check the files that were laid out with it, and those of its blocks."""
    described = read_whole_json(folder.plan)
    if described is None:
        damaged = f"{folder.plan} is empty or torn" if folder.plan.exists() else ""
        return None, damaged
    if described.get("key") != key:
        return None, ""
    if fault := wrong_size(folder, described.get("files") or {}):
        return None, f"{folder.path}: {fault}"
    plan = TilePlan.from_json(described["plan"])
    try:
        return (plan, block_faults(folder, key, plan)), ""
    except StoreError as error:
        return None, str(error)


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
    sync_folder(folder.path)  # an old plan must not stand beside new files
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
        "files": _laid_out(folder),
    }
    write_json(folder.plan, described)
    sync_names([folder.plan], run.results.path)
    return plan


def _laid_out(folder: SlideFolder) -> dict[str, int]:
    """Sync everything that is laid out for a slide, and return the size of each file (B)."""
    for store in (folder.mask, folder.heat):
        sync_tree(store)
    sync_folder(folder.path)
    return {name: path.stat().st_size for name, path in kept_files(folder).items()}


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
