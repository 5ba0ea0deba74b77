"""Comparison of two folders of results: two models, versions or scanners on the same slides.

Both folders are only read. The folder of the comparison is an ordinary folder of results, whose
label maps are change maps, with ``diff.csv``, ``diff.parquet`` and a page beside its own tables.
The same command continues after a kill.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from noctile.pipeline.agreement import Limits
from noctile.pipeline.diff import CHANGE_CLASSES, Alignment
from noctile.pipeline.diff_columns import COMPARED
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.report.diff_page import Comparison, diff_page, tumor_limits
from noctile.pipeline.slides.names import fold_name
from noctile.workflows.commands.diff_map import MODEL
from noctile.workflows.commands.diff_match import (
    DAMAGED,
    Known,
    Matches,
    Pair,
    match_slides,
    read_pairs,
)
from noctile.workflows.commands.diff_side import ComparedFolder, differing
from noctile.workflows.commands.diff_slide import (
    DiffJob,
    compare_pair,
    content_key,
    standing_figures,
)
from noctile.workflows.commands.diff_table import Row, diff_table, write_diff_table
from noctile.workflows.commands.table import held_for_tables
from noctile.workflows.engines.base import Engine, Failure, Outcome
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.resources import cores
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.files import read_json, read_required_json, write_atomic, write_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.staging import clean_up
from noctile.workflows.results.standing import Standing
from noctile.workflows.results.tables import Tables
from noctile.workflows.run.record import machine, run_id

RECORD, PAGE = "diff.json", "index.html"
"""Names of the record of a comparison, which tells its folder from others, and of its page."""


@dataclass(frozen=True, slots=True)
class DiffResult:
    """Result of ``noctile diff``.

    Attributes:
        rows: row of each slide of both folders, the largest change first.
        counts: number of slides by status.
        limits: bias and limits of agreement of the tumor area (mm2); None for fewer than two pairs.
        provenance: models, versions and runs of each side, by ``a`` and ``b``.
        made: number of change maps that this call made; others stood already.
    """

    rows: tuple[Row, ...]
    counts: dict[str, int]
    limits: Limits | None
    provenance: dict[str, Any]
    made: int

    @property
    def exit_code(self) -> int:
        """0 if all slides that both folders have done were compared, else 1."""
        return 1 if self.counts.get("unreadable") else 0


def diff_results(
    a: Path,
    b: Path,
    out: Path,
    match: Path | None,
    workers: int | None,
    observe: Callable[[str], None],
) -> DiffResult:
    """Compare the results of two folders slide by slide.

    Args:
        a: first folder of results.
        b: second folder of results.
        out: folder of the comparison: new, empty, or of an earlier comparison of the same folders.
        match: CSV file with ids in the columns ``a`` and ``b``; None for no file.
        workers: number of processes; None for one per core.
        observe: called with a line for each slide that was compared or could not be.

    Raises:
        UsageError: if a folder holds no results, the file of pairs cannot be used, or ``out`` holds
            anything else.
        StoreError: if the file system refuses.
    """
    sides = ComparedFolder(a), ComparedFolder(b)
    named = read_pairs(match, sides[0].slides, sides[1].slides) if match else ()
    matches = match_slides(sides[0].slides, sides[1].slides, named)
    _begin(out, sides)
    with held_for_tables(out) as (results, ledger):
        work = _Diff(sides, matches, results, ledger)
        work.check_standing()
        work.compare(workers, observe)
        return work.finish()


def _begin(out: Path, sides: tuple[ComparedFolder, ComparedFolder]) -> None:
    """Make the folder of a comparison, with its record.

    Raises:
        UsageError: if it cannot be used.
    """
    target, paths = (
        out.resolve(),
        {n: str(s.results.path) for n, s in zip("ab", sides, strict=True)},
    )
    for side in sides:
        source = side.results.path
        if target.is_relative_to(source) or source.is_relative_to(target):
            raise UsageError(f"--out {out} and {side.name} lie in each other; choose another --out")
    try:
        found = read_json(target / RECORD) or {}
        if (target.exists() and not target.is_dir()) or (not found and _holds_anything(target)):
            raise UsageError(
                f"--out {out} holds files that no comparison has written; choose a new or an empty "
                "folder"
            )
        if found and {n: found.get(n, {}).get("results") for n in "ab"} != paths:
            raise UsageError(
                f"--out {out} holds the comparison of other folders; choose another --out"
            )
        ResultsFolder(target).slides.mkdir(parents=True, exist_ok=True)
        if not found:
            write_json(target / RECORD, {n: {"results": path} for n, path in paths.items()})
    except (OSError, StoreError, AttributeError) as error:
        raise UsageError(f"--out {out} cannot be used: {error}") from error


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


@dataclass
class _Diff:
    """Comparison into a folder, which is held.

    Attributes:
        sides: both folders.
        matches: their slides.
        results: folder of the comparison.
        ledger: its ledger.
        start: time of the start.
        failures: failure of each comparison that failed, by its id.
        made: number of change maps that were made.
    """

    sides: tuple[ComparedFolder, ComparedFolder]
    matches: Matches
    results: ResultsFolder
    ledger: Ledger
    start: datetime = field(default_factory=lambda: datetime.now(UTC))
    failures: dict[str, Failure] = field(default_factory=dict)
    made: int = 0

    @property
    def run(self) -> str:
        """Run id of this call."""
        return run_id(self.start)

    @property
    def pairs(self) -> list[Pair]:
        """Pairs of which both sides have a result."""
        return [pair for pair in self.matches.pairs if pair.a.done and pair.b.done]

    def check_standing(self) -> None:
        """Check that all change maps in the folder belong to this comparison.

        Raises:
            UsageError: if one does not.
        """
        ids = {pair.a.slide_id for pair in self.pairs}
        standing = sorted(Standing(self.results, self.ledger.state).summaries)
        if other := [slide_id for slide_id in standing if slide_id not in ids]:
            raise UsageError(
                f"--out {self.results.path} holds change maps of slides that this call does not "
                f"compare ({', '.join(other[:5])}); choose another --out"
            )

    def compare(self, workers: int | None, observe: Callable[[str], None]) -> None:
        """Compare all pairs whose change map does not stand already.

        Raises:
            StoreError: if the file system refuses.
        """
        self._submit()
        jobs = {job.key: job for job in map(self._job, self.pairs) if not self._stands(job)}
        queue = iter(jobs.values())
        with closing(_engine(min(workers or cores(), len(jobs)))) as engine:
            for outcome in engine.run(compare_pair, lambda: next(queue, None)):
                self._record(outcome, jobs[outcome.key])
                end = f"not compared: {outcome.failure.message}" if outcome.failure else "compared"
                observe(f"{outcome.key} {end}")

    def _submit(self) -> None:
        """Record every slide of both folders in the ledger."""
        self.ledger.started("diff", [pair.a.slide_id for pair in self.pairs], "", self.run)
        for slide_id, a, b, _ in self._slides():
            known = self._row_of(0, a) or self._row_of(1, b)
            assert known is not None  # noqa: S101 - every slide stands in one of both folders
            cells = {n: v for n in ("patient_id", "group") if (v := getattr(known, n))}
            if a and b and a.done and b.done:
                self.ledger.submitted(slide_id, str(known.path), (-1, -1), cells, self.run)
            else:
                _, why = _why_not_compared(a, b)
                self.ledger.left_out(slide_id, str(known.path), f"not_compared: {why}", self.run)

    def _row_of(self, side: int, slide: Known | None) -> Any:
        return self.sides[side].rows[slide.slide_id] if slide else None

    def _slides(self) -> Iterator[tuple[str, Known | None, Known | None, str]]:
        """Each slide of both folders: its id here, the slide on each side, and the rule."""
        taken = {fold_name(slide_id) for slide_id in self.sides[0].slides}
        for pair in self.matches.pairs:
            yield pair.a.slide_id, pair.a, pair.b, pair.matched_by
        for slide in self.matches.only_a:
            yield slide.slide_id, slide, None, ""
        for slide in self.matches.only_b:
            slide_id = slide.slide_id
            while fold_name(slide_id) in taken:
                slide_id += "_b"
            taken.add(fold_name(slide_id))
            yield slide_id, None, slide, ""

    def _job(self, pair: Pair) -> DiffJob:
        (a, b), key = self.sides, pair.a.slide_id
        folders = a.results.slide(key).path, b.results.slide(pair.b.slide_id).path
        alignment: Alignment = "level0" if pair.a.is_same_file(pair.b) else "physical"
        return DiffJob(key, *folders, self.results.path, alignment)

    def _stands(self, job: DiffJob) -> bool:
        """Tell if the change map of the same two results stands already."""
        folder = self.results.slide(job.key)
        try:
            if slide_fault(folder):
                return False
            return bool(read_required_json(folder.summary).get("key") == content_key(job))
        except StoreError:
            return False

    def _record(self, outcome: Outcome, job: DiffJob) -> None:
        """Record the end of a comparison in the ledger."""
        if outcome.failure:
            self.failures[outcome.key] = outcome.failure
            self.ledger.failed("diff", outcome.key, "", outcome.failure, outcome.seconds)
            return
        self.made += 1
        key = str(read_required_json(self.results.slide(job.key).summary).get("key"))
        self.ledger.finished(job.key, key, outcome.seconds)
        clean_up(self.results, job.key)

    def finish(self) -> DiffResult:
        """Write tables, records and page.

        Raises:
            StoreError: if the file system refuses.
        """
        standing = Standing(self.results, self.ledger.state)
        rows = [self._row(standing, *slide) for slide in self._slides()]
        table = diff_table(rows)
        provenance = self._provenance()
        counts = dict(Counter(row["status"] for row in rows))
        limits = tumor_limits(rows)
        result = DiffResult(tuple(_in_order(rows, table)), counts, limits, provenance, self.made)
        write_diff_table(table, self.results.path)
        page = diff_page(Comparison(result.rows, counts, provenance, self.start))
        write_atomic(
            self.results.path / PAGE, partial(Path.write_text, data=page, encoding="utf-8")
        )
        Tables(self.results, standing).write()
        self._write_records(result)
        return result

    def _row(
        self, standing: Standing, slide_id: str, a: Known | None, b: Known | None, rule: str
    ) -> Row:
        rows = self._row_of(0, a), self._row_of(1, b)
        row: Row = {
            "slide_id": slide_id,
            "slide_id_a": a.slide_id if a else None,
            "slide_id_b": b.slide_id if b else None,
            "matched_by": rule,
        }
        for name in ("patient_id", "group"):
            row[name] = next((v for r in rows if r and (v := getattr(r, name))), None)
        for name, side in zip("ab", rows, strict=True):
            about = side.summary if side else {}
            row[f"model_{name}"] = about.get("model")
            row[f"model_sha256_{name}"] = about.get("model_sha256")
            row[f"run_{name}"] = side.run if side else None
        if not (a and b and a.done and b.done):
            status, message = _why_not_compared(a, b)
            return row | {"status": status, "message": message}
        if failure := self.failures.get(slide_id):
            return row | {"status": "unreadable", "message": failure.message}
        figures = standing_figures(standing.summaries.get(slide_id, {}))
        return row | {**figures, "status": COMPARED, "message": figures.get("note") or ""}

    def _provenance(self) -> dict[str, Any]:
        ids = [[getattr(pair, name).slide_id for pair in self.pairs] for name in "ab"]
        a, b = (side.provenance(own) for side, own in zip(self.sides, ids, strict=True))
        parts = ("settings", "versions")
        return {"a": a, "b": b, "differing": {part: differing(a, b, part) for part in parts}}

    def _write_records(self, result: DiffResult) -> None:
        """Write the record of this call as that of a run, and the record of the comparison."""
        about = {
            "run": self.run,
            "start": self.start.isoformat(timespec="seconds"),
            "end": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        }
        counts = {"done": result.counts.get(COMPARED, 0), "failed": len(self.failures)}
        record = {
            **about,
            "stopped": None,
            "slides": {**counts, "skipped": len(result.rows) - sum(counts.values())},
            "failed": sorted(self.failures),
            "settings": {name: result.provenance[name]["results"] for name in "ab"},
            "model": {"name": MODEL},
            "classes": [info.name for info in CHANGE_CLASSES],
            "machine": machine(),
        }
        write_json(self.results.run_record(self.run), record)
        write_json(self.results.path / RECORD, {**about, **result.provenance})


def _in_order(rows: Sequence[Row], table: Any) -> Iterator[Row]:
    """Rows in the order of the table."""
    by_id = {row["slide_id"]: row for row in rows}
    return (by_id[slide_id] for slide_id in table["slide_id"].to_pylist())


def _why_not_compared(a: Known | None, b: Known | None) -> tuple[str, str]:
    """Status and message of a slide that has no two results."""
    if a is None:
        return "only_b", "folder a does not have this slide"
    if b is None:
        return "only_a", "folder b does not have this slide"
    sides = (("a", a), ("b", b))
    about = [f"{k.status} in {n} ({k.message or 'no reason'})" for n, k in sides if not k.done]
    damaged = any(slide.status == DAMAGED for slide in (a, b))
    return "unreadable" if damaged else "not_done", " and ".join(about)


def _engine(workers: int) -> Engine:
    if workers <= 1:
        return SerialEngine()
    from noctile.workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load

    return DaskEngine(
        workers, env={"OMP_NUM_THREADS": "1"}, preload=("noctile.workflows.commands.diff_slide",)
    )
