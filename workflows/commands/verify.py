"""Is everything that was written still there, intact and of one mind? Reads all of it again; writes
nothing.

for each slide    files:    all there, each with its checksum, nothing left over by a killed writer
                  masks:    every level decodes and follows from the finer one; labels are known,
                  and in tissue only figures:  counted anew from the masks, they are those of
                  summary, tiles and the cohort's table
for the cohort    tables:   both say the same, of as many slides as the run did
"""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from noctile.pipeline.cohort import SlideRow, cohort_table, write_csv
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.check import check_levels
from noctile.pipeline.masks.shard import PARTIAL
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import count_cores, measure
from noctile.pipeline.models.folder import sha256_of
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.quality import BlockStats, CoreCount, SlideQuality
from noctile.pipeline.stitch.block import pool_sums
from noctile.pipeline.tissue import TissueMask
from noctile.workflows.engines.base import Engine
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.finish import tile_table
from noctile.workflows.jobs.worker import read_plan
from noctile.workflows.results.checksums import kept_files, read_checksums
from noctile.workflows.results.layout import SlideFolder, is_temporary, read_json
from noctile.workflows.settings import cores

Row = dict[str, Any]

_NOT_OF_THE_SUMMARY = {"slide_id", "path", "patient_id", "group", "status", "reason", "seconds"}
"""Columns of the cohort's table that do not come from a slide's summary."""

_NAMES = 5
"""So many slides are named where a table is wrong in many rows."""

_DELETE = "delete it"
_DO_AGAIN = "delete {folder} and run the same command again"
_MEASURE_AGAIN = (
    "delete {folder}/summary.json and run the same command again, which measures the slide anew"
)
_TABLES_AGAIN = "run the same command again, which writes the tables anew"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written.

    Attributes:
        file: where; its name in the results' folder.
        what: is wrong with it.
        remedy: what to do.
    """

    file: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SlideCheck:
    """What came of one slide.

    Attributes:
        slide_id: of the slide.
        faults: what is wrong; empty if nothing is.
    """

    slide_id: str
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of a folder of results.

    Attributes:
        slides: a check on each slide that is done, by id.
        tables: what is wrong with the cohort's tables.
        unlisted: slides that are done and not in the tables; another call on the same folder did
            them.
    """

    slides: tuple[SlideCheck, ...]
    tables: tuple[Fault, ...]
    unlisted: tuple[str, ...]

    @property
    def wrong(self) -> list[SlideCheck]:
        """The slides that have a fault."""
        return [check for check in self.slides if check.faults]

    @property
    def exit_code(self) -> int:
        """0 if nothing is wrong, else 1."""
        return 1 if self.wrong or self.tables else 0


def verify(
    out: Path, slide_ids: Sequence[str], workers: int | None, observe: Callable[[SlideCheck], None]
) -> Verification:
    """Read a folder of results again.

    Args:
        out: the folder.
        slide_ids: the slides to look at; none means all that are done, and the tables.
        workers: processes; None: one per core.
        observe: sees each check as soon as it stands.

    Raises:
        UsageError: if there are no results, or a slide is named that is not done.
    """
    rows, tables = _read_tables(out)
    listed = {slide_id for slide_id, row in rows.items() if row["status"] == "done"}
    done = {path.parent.name for path in (out / "slides").glob("*/summary.json")} | listed
    if not (out / "slides").is_dir():
        raise UsageError(f"{out} holds no results of noctile: it has no folder 'slides'")
    if strange := sorted(set(slide_ids) - done):
        raise UsageError(
            f"{out}: no slide {', '.join(map(repr, strange))} is done; see `noctile status {out}`"
        )
    chosen = sorted(set(slide_ids) or done)
    jobs = iter([_Job(str(out), slide_id, rows.get(slide_id)) for slide_id in chosen])
    checks = []
    with closing(_engine(min(workers or cores(), len(chosen)))) as engine:
        for outcome in engine.run(_verify, lambda: next(jobs, None)):
            check = outcome.value
            if outcome.failure:
                folder = f"slides/{outcome.key}"
                unchecked = Fault(
                    folder,
                    f"cannot be checked: {outcome.failure.message}",
                    _DO_AGAIN.format(folder=folder),
                )
                check = SlideCheck(outcome.key, (unchecked,))
            checks.append(check)
            observe(check)
    unlisted = sorted(done - listed) if rows else []
    by_id = tuple(sorted(checks, key=lambda v: v.slide_id))
    return Verification(by_id, () if slide_ids else tuple(tables), tuple(unlisted))


def _engine(workers: int) -> Engine:
    if workers <= 1:
        return SerialEngine()
    from noctile.workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load, and one process needs none of it

    return DaskEngine(
        workers, env={"OMP_NUM_THREADS": "1"}, preload=("noctile.workflows.commands.verify",)
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """A slide to look at, with its row of the cohort's table, if it has one."""

    out: str
    key: str
    row: Row | None
    limit_s: float = inf

    @property
    def group(self) -> str:
        return self.key


def _verify(job: _Job) -> SlideCheck:
    return verify_slide(SlideFolder(Path(job.out) / "slides" / job.key), job.row)


def verify_slide(folder: SlideFolder, row: Row | None) -> SlideCheck:
    """Look at one slide that is done.

    Figures are counted only from masks that are what was written: others would merely be wrong once
    more.

    Args:
        folder: of the slide.
        row: of the slide in ``slides.parquet``, or None.
    """
    slide_id = folder.path.name
    if not folder.path.is_dir():
        missing = Fault(f"slides/{slide_id}", "is missing", "run the same command again")
        return SlideCheck(slide_id, (missing,))
    faults = [_fault(folder, path, "is missing") for path in folder.everything if not path.exists()]
    if not faults:
        faults = list(_files(folder))
        if _DO_AGAIN.format(folder=f"slides/{slide_id}") not in {fault.remedy for fault in faults}:
            try:
                faults.extend(_contents(folder, row))
            except _DamagedError as damaged:
                faults.append(damaged.fault)
    return SlideCheck(slide_id, tuple(faults))


class _DamagedError(Exception):
    """A file cannot be read at all; nothing that needs it can be looked at."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@contextmanager
def _reading(folder: SlideFolder, path: Path) -> Iterator[None]:
    """Whatever a damaged file makes its reader say, as a `_DamagedError`."""
    try:
        yield
    except (StoreError, OSError, ValueError, TypeError, LookupError) as error:
        raise _DamagedError(_fault(folder, path, f"cannot be read: {error}")) from error


def _fault(folder: SlideFolder, path: Path, what: str) -> Fault:
    """A fault of one of a slide's files, and the least that mends it."""
    measured = (folder.summary, folder.checksums, folder.tiles, folder.preview)
    remedy = _MEASURE_AGAIN if path in measured else _DO_AGAIN
    return Fault(_name(folder, path), what, remedy.format(folder=f"slides/{folder.path.name}"))


def _name(folder: SlideFolder, path: Path) -> str:
    return path.relative_to(folder.path.parent.parent).as_posix()


def _files(folder: SlideFolder) -> Iterator[Fault]:
    """What differs from the checksums that were recorded, and what killed writers left."""
    for path in sorted(folder.path.rglob("*")):
        if path.suffix == PARTIAL or is_temporary(path):
            yield Fault(_name(folder, path), "was left by a writer that was killed", _DELETE)
    try:
        recorded = read_checksums(folder)
    except StoreError as error:
        yield _fault(folder, folder.checksums, f"cannot be read: {error}")
        return
    if recorded is None:
        yield _fault(folder, folder.checksums, "is missing")
        return
    files = kept_files(folder) | {folder.summary.name: folder.summary}
    for name in sorted(recorded.keys() | files.keys()):
        path = folder.path / name
        if name not in files:
            yield _fault(folder, path, "is missing")
        elif name not in recorded:
            yield _fault(folder, path, "was not there when the slide was finished")
        elif sha256_of(path) != recorded[name]:
            yield _fault(folder, path, "is not what was written: its checksum differs")


def _contents(folder: SlideFolder, row: Row | None) -> Iterator[Fault]:
    """What does not follow from the masks.

    Raises:
        _DamagedError: if a file cannot be read.
    """
    with _reading(folder, folder.plan):
        described = read_json(folder.plan) or {}
        about, key = described["slide"], described["key"]
        plan, tissue, _ = read_plan(folder)
    with _reading(folder, folder.facts):
        facts = {
            name: BlockStats.from_json(values)
            for name, values in (read_json(folder.facts) or {}).items()
        }
    with _reading(folder, folder.summary):
        summary = dict(read_json(folder.summary) or {})
    with _reading(folder, folder.preview), Image.open(folder.preview) as preview:
        preview.load()
    with _reading(folder, folder.mask):
        store = MaskStore.open(folder.mask)
        count = _Count(store, plan, tissue)
        for what in (*count.faults(facts), *check_levels(store)):
            yield _fault(folder, folder.mask, what)
        figures, tiles = count.figures()
    expected = json.loads(
        json.dumps(
            {"key": key, **about, **figures, **asdict(SlideQuality.from_blocks(facts.values()))}
        )
    )
    for name, value in expected.items():
        if name not in summary or summary[name] != value:
            yield _fault(
                folder, folder.summary, f"says {name} = {summary.get(name)}, but the masks {value}"
            )
    with _reading(folder, folder.tiles):
        if not pq.read_table(folder.tiles).equals(tiles):
            yield _fault(folder, folder.tiles, "does not hold what the masks have in each tile")
    if row is not None:
        yield from _row_faults(folder.path.name, row, summary | expected, store)


class _Count:
    """Counts labels, twice: block by block over all of level 0, and tile by tile as the run did."""

    def __init__(self, store: MaskStore, plan: TilePlan, tissue: TissueMask) -> None:
        self._store, self._plan, self._tissue = store, plan, tissue
        self._cores: list[CoreCount] = []
        self._pixels = np.zeros(256, np.int64)

    def faults(self, facts: dict[str, BlockStats]) -> Iterator[str]:
        """Count every block; say what cannot be. Holds a block at a time.

        Args:
            facts: of each planned block, by ``row.col``.
        """
        codes = [c.code for c in self._store.layout.classes]
        planned = {block.key: block for block in self._plan.blocks}
        for key in sorted(planned.keys() | set(self._store.stored_shards())):
            where = f"block {key[0]}, {key[1]}"
            if key not in planned:
                yield f"has labels in {where}, which has no tissue"
                continue
            box = planned[key].box
            labels = self._store.read(box)
            counts = np.bincount(labels.ravel(), minlength=256)
            if strange := set(np.flatnonzero(counts).tolist()) - {0, *codes}:
                yield f"has labels in {where} that are no class: {sorted(strange)}"
            if labels[~self._tissue.on(box, self._plan.frame)].any():
                yield f"has labels outside the tissue in {where}"
            analysed = int(counts[1:].sum())
            known = facts.get(f"{key[0]}.{key[1]}")
            if known is None or known.analysed_px != analysed:
                yield f"has {analysed} labels in {where}, where {known.analysed_px if known else 'none'} were written"
            pool = pool_sums(np, (labels > 0).view(np.uint8)).astype(np.uint8)
            confidence = self._store.read_heat_maps(box)[1]
            found = tuple(count_cores(self._plan, planned[key], codes, labels, pool, confidence))
            if known is not None and known.cores != found:
                yield f"has other labels or another confidence in {where} than were counted there"
            self._pixels += counts
            self._cores.extend(found)

    def figures(self) -> tuple[dict[str, Any], pa.Table]:
        """What a summary says of the labels, its areas counted over level 0; and the tiles' table."""
        classes, mm2 = self._store.layout.classes, self._plan.frame.pixel_area_mm2
        summary, tiles = measure(self._store, self._plan, classes, self._cores)
        tumor_px = sum(float(self._pixels[c.code]) for c in classes if c.role == "tumor")
        areas = {
            "tissue_area_mm2": round(int(self._pixels[1:].sum()) * mm2, 6),
            "tumor_area_mm2": round(tumor_px * mm2, 6),
            "class_area_mm2": {
                c.name: round(float(self._pixels[c.code]) * mm2, 6) for c in classes
            },
            "label_map_mpp": [self._plan.frame.mpp_y, self._plan.frame.mpp_x],
        }
        return {**asdict(summary), **areas}, tile_table(tiles, [c.name for c in classes])


def _row_faults(
    slide_id: str, row: Row, summary: dict[str, Any], store: MaskStore
) -> Iterator[Fault]:
    """Where a row of the cohort's table differs from its slide's summary, as that ought to be."""
    made = SlideRow(slide_id, Path(row["path"]), None, None, "done", "", summary, None)
    expected = cohort_table([made], store.layout.classes).to_pylist()[0]
    for name in expected.keys() - _NOT_OF_THE_SUMMARY:
        if name not in row or row[name] != expected[name]:
            what = f"says {name} = {row.get(name)} of {slide_id}, but its folder {expected[name]}"
            yield Fault("slides.parquet", what, _TABLES_AGAIN)


def _read_tables(out: Path) -> tuple[dict[str, Row], list[Fault]]:
    """The rows of ``slides.parquet`` by slide_id, and what is wrong with the tables as such;
    nothing before the end.
    """
    parquet, text, run = out / "slides.parquet", out / "slides.csv", out / "run.json"
    if not any(path.exists() for path in (parquet, text, run)):
        return {}, []
    faults = [
        Fault(p.name, "is missing", _TABLES_AGAIN) for p in (parquet, text, run) if not p.exists()
    ]
    faults += [
        Fault(path.name, "was left by a writer that was killed", _DELETE)
        for path in out.iterdir()
        if is_temporary(path)
    ]
    if not parquet.exists():
        return {}, faults
    try:
        table = pq.read_table(parquet)
        rows = {str(row["slide_id"]): row for row in table.to_pylist()}
        found = Counter(row["status"] for row in rows.values())
        if len(rows) < len(table):
            faults.append(Fault(parquet.name, "names a slide twice", _TABLES_AGAIN))
    except (OSError, ValueError, KeyError) as error:
        return {}, [*faults, Fault(parquet.name, f"cannot be read: {error}", _TABLES_AGAIN)]
    try:
        if text.exists():
            faults += _csv_faults(table, text)
        counted = {k: v for k, v in ((read_json(run) or {}).get("slides") or found).items() if v}
    except (OSError, ValueError, StoreError) as error:
        return rows, [
            *faults,
            Fault(f"{text.name}, {run.name}", f"cannot be read: {error}", _TABLES_AGAIN),
        ]
    if counted != dict(found):
        said = f"has {_counts(found)}, but the run did {_counts(counted)}"
        faults.append(Fault(parquet.name, said, _TABLES_AGAIN))
    return rows, faults


def _csv_faults(table: pa.Table, text: Path) -> Iterator[Fault]:
    """Where ``slides.csv`` does not say what ``slides.parquet`` says."""
    with tempfile.TemporaryDirectory() as folder:
        write_csv(table, Path(folder) / text.name)
        expected, found = _cells(Path(folder) / text.name), _cells(text)
    missing = sorted(expected.keys() - found.keys())
    other = [name for name in sorted(found) if found[name] != expected.get(name)]
    for names, what in (
        (missing, "has no row of {}, which slides.parquet has"),
        (other, "does not say of {} what slides.parquet says"),
    ):
        if names:
            some = ", ".join(names[:_NAMES]) + (
                f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            )
            yield Fault(text.name, what.format(some), _TABLES_AGAIN)


def _cells(text: Path) -> dict[str, list[str]]:
    """The header and the rows of a CSV file, by their first cell."""
    with text.open(encoding="utf-8", newline="") as lines:
        return {row[0]: row for row in csv.reader(lines) if row}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "nothing"
