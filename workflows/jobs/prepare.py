"""The first step of a slide: open it, find its tissue, plan its tiles and lay out its stores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from PIL import Image

from noctile.pipeline.errors import ChangedWhileReadError, StoreError
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.roi.regions import roi_features
from noctile.pipeline.slide_plan import SlidePlan, plan_slide
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.fingerprint import content_sha256, mtime_fingerprint
from noctile.pipeline.slides.open import open_slide
from noctile.workflows.jobs.messages import Prepared, RunContext, StepJob
from noctile.workflows.jobs.provenance import confinement, describe, provenance
from noctile.workflows.results.blocks import block_faults
from noctile.workflows.results.checksums import kept_files, slide_fault, wrong_size
from noctile.workflows.results.durable import sync_folder, sync_names, sync_tree
from noctile.workflows.results.files import read_whole_json, sweep, write_atomic, write_json
from noctile.workflows.results.layout import SlideFolder
from noctile.workflows.results.staging import clear, remove
from noctile.workflows.results.strange import strange_file


@dataclass(frozen=True, slots=True)
class _Version:
    """Version of a slide's content under the model and the settings.

    Attributes:
        key: content key of the slide.
        modified: hash of the times of its files.
        sha256: hash of all its bytes if ``--check-content full`` asks for it, else None.
        confined: hash of each file that confines its analysis, see `Confinement.hashes`.
    """

    key: str
    modified: str
    sha256: str | None
    confined: Mapping[str, str]

    def made(self, key: Any, slide: Mapping[str, Any]) -> bool:
        """Tell if a plan or a result was made of this version.

        A hash of all bytes decides if both have one. If only this version has one, the times of
        the files must not have changed.

        Args:
            key: recorded content key.
            slide: recorded properties of the slide.
        """
        if key != self.key or self.sha256 is None:
            return bool(key == self.key)
        if recorded := slide.get("content_sha256"):
            return bool(recorded == self.sha256)
        return bool(slide.get("modified") == self.modified)


@dataclass(frozen=True, slots=True)
class _Earlier:
    """Plan of an earlier call.

    Attributes:
        folder: folder that holds it.
        plan: the plan.
        faults: fault in the files of each block that is not written whole, by (row, col).
    """

    folder: SlideFolder
    plan: TilePlan
    faults: Mapping[tuple[int, int], str]


def prepare_slide(job: StepJob) -> Prepared:
    """Plan a slide and lay out its stores in staging, or find that an earlier run has done so.

    A result in ``slides/`` is not changed.

    Raises:
        SlideError: if the slide cannot be opened or read, or if its pixel size is implausible.
        StoreError: if a file of the slide's result cannot be read or written.
    """
    run, slide_id = job.run, job.step.slide_id
    final = run.results.slide(slide_id)
    reader = open_slide(job.entry.path, slide_id=slide_id, mpp=job.entry.mpp, bgr=job.entry.bgr)
    try:
        version, content = _version(reader.info, job), reader.info.fingerprint
        summary, fault = read_whole_json(final.summary), slide_fault(final)
        made = summary is not None and version.made(summary.get("key"), summary)
        if fault is None and made:
            return Prepared(version.key, False, True, (), (), content, final)
        before, damaged = _earlier_plan(version, run, slide_id)
        if fault and final.plan.exists() and (made or not summary):
            damaged = damaged or f"{final.path}: {fault}"
        found = before or _plan_slide(reader, version, job)
        blocks = found.plan.blocks
        keys, tiles_of = tuple(b.key for b in blocks), tuple(len(b.tiles) for b in blocks)
        about = keys, tiles_of, content, found.folder, found.faults, damaged
        return Prepared(version.key, before is None, False, *about)
    finally:
        reader.close()


def _version(info: SlideInfo, job: StepJob) -> _Version:
    full, entry = job.run.settings.check_content == "full", job.entry
    confined = confinement(entry).hashes()
    return _Version(
        job.run.slide_key(info.fingerprint, entry.mpp, entry.bgr, confined),
        mtime_fingerprint(info.path),
        content_sha256(info.path) if full else None,
        confined,
    )


def _earlier_plan(version: _Version, run: RunContext, slide_id: str) -> tuple[_Earlier | None, str]:
    """Find the plan that an earlier call made under the same key, with its masks laid out.

    The slide continues in staging, or a plan of ``noctile plan`` moves there. It continues in its
    result's own folder if all blocks are whole there and only a measured file is missing or
    damaged.

    Returns:
        the plan, or None; and the fault in files in staging that cannot be used, "" if there is
        none.
    """
    results = run.results
    staged, final = results.staged(slide_id), results.slide(slide_id)
    earlier, damaged = _read_plan(version, staged)
    if earlier:
        if not run.planning:
            sweep(staged.path)
            sync_folder(staged.path)  # the run that wrote it may have been killed before its sync
        return earlier, ""
    done = _read_plan(version, final)[0] if final.block_stats_file.exists() else None
    if done and not done.faults:
        if not run.planning:
            remove(staged)
        return done, ""
    planned = _read_plan(version, results.planned_slide(slide_id))[0]
    if planned and not run.planning:
        planned = replace(planned, folder=_adopt(planned.folder, staged))
    return planned, damaged


def _adopt(planned: SlideFolder, staged: SlideFolder) -> SlideFolder:
    """Move a plan of ``noctile plan`` to staging."""
    remove(staged)
    staged.path.parent.mkdir(exist_ok=True)
    planned.path.replace(staged.path)
    sync_folder(staged.path.parent)
    return staged


def _read_plan(version: _Version, folder: SlideFolder) -> tuple[_Earlier | None, str]:
    """Read a plan and check the files that were laid out with it, and those of its blocks."""
    if strange := strange_file(folder):
        return None, f"{folder.path}: {strange}"
    described = read_whole_json(folder.plan)
    if described is None:
        damaged = f"{folder.plan} is empty or torn" if folder.plan.exists() else ""
        return None, damaged
    if not version.made(described.get("key"), described.get("slide", {})):
        return None, ""
    if fault := wrong_size(folder, described.get("files") or {}):
        return None, f"{folder.path}: {fault}"
    plan = TilePlan.from_json(described["plan"])
    try:
        return _Earlier(folder, plan, block_faults(folder, version.key, plan)), ""
    except StoreError as error:
        return None, str(error)


def _plan_slide(reader: SlideReader, version: _Version, job: StepJob) -> _Earlier:
    info, run = reader.info, job.run
    results = run.results
    place = results.planned_slide if run.planning else results.staged
    folder = place(info.slide_id)
    tiling, uses_stain = run.settings.tiling(run.card), run.card.stain is not None
    given = confinement(job.entry)
    planned = plan_slide(
        reader, run.settings.tissue, tiling, measure_stain=uses_stain, confined=given
    )
    if given.hashes() != version.confined:
        raise ChangedWhileReadError(
            f"slide {info.slide_id}: its region of interest or tissue mask was changed while it "
            "was read. Run the same command again when no program writes to the file"
        )
    plan, tissue = planned.tiles, planned.tissue
    folder.path.mkdir(parents=True, exist_ok=True)
    clear(folder)
    sync_folder(folder.path)  # an old plan must not stand beside new files
    layout = MaskLayout(plan.frame, plan.block_px, plan.chunk_px, run.card.classes)
    about = {**provenance(info, run), "stain": planned.stain, **version.confined}
    MaskStore.create(folder.mask, layout, planned.thumbnail, planned.thumbnail_frame, about)
    picture = Image.fromarray(tissue.mask).convert("L")
    write_atomic(folder.tissue, lambda p: picture.save(p, optimize=False))
    if planned.roi:
        write_json(folder.roi, roi_features(planned.roi), compact=True)
    described = _described(reader, version, planned) | {"files": laid_out(folder)}
    write_json(folder.plan, described)
    sync_names([folder.plan], run.results.path)
    return _Earlier(folder, plan, {})


def _described(reader: SlideReader, version: _Version, planned: SlidePlan) -> dict[str, Any]:
    """Contents of ``plan.json``, without the sizes of the files."""
    tissue = planned.tissue
    content = {"modified": version.modified, "content_sha256": version.sha256}
    about = {
        "key": version.key,
        "slide": describe(reader.info) | content,
        "tissue": {
            "frame": asdict(tissue.frame),
            "rule": tissue.rule,
            "flags": [*tissue.flags, *reader.flags],
            "area_mm2": round(tissue.area_mm2, 6),
        },
        "stain": planned.stain,
        "plan": planned.tiles.to_json(),
    }
    return about | ({"confined": dict(version.confined)} if version.confined else {})


def laid_out(folder: SlideFolder) -> dict[str, int]:
    """Sync everything that is laid out for a slide, and return the size of each file (B)."""
    for store in (folder.mask, folder.heat):
        sync_tree(store)
    sync_folder(folder.path)
    return {name: path.stat().st_size for name, path in kept_files(folder).items()}
