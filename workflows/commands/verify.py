"""Check that the results in a folder are complete, intact and consistent.

Everything is read again, and nothing is written. For each slide:

- files: all are there, each has its recorded checksum, and no killed writer left a file;
- masks: every level decodes and follows from the finer one; labels are known classes, in tissue;
- figures: summary, tile table and the cohort's table agree with a new count of the masks.

For the cohort: both tables agree with each other and with what stands in the folder.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.verify_faults import Fault, segment_again
from noctile.workflows.commands.verify_slide import SlideCheck, verify_slide
from noctile.workflows.commands.verify_tables import Row, read_tables
from noctile.workflows.engines.base import Engine, Outcome
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.resources import cores
from noctile.workflows.results.layout import SlideFolder


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of the check of a folder of results.

    Attributes:
        slides: check of each slide that is done, by id.
        tables: faults of the cohort's tables.
    """

    slides: tuple[SlideCheck, ...]
    tables: tuple[Fault, ...]

    @property
    def wrong(self) -> list[SlideCheck]:
        """Checks of the slides that have a fault."""
        return [check for check in self.slides if check.faults]

    @property
    def exit_code(self) -> int:
        """0 if there is no fault, else 1."""
        return 1 if self.wrong or self.tables else 0


def verify(
    out: Path, slide_ids: Sequence[str], workers: int | None, observe: Callable[[SlideCheck], None]
) -> Verification:
    """Check the results in a folder.

    Args:
        out: folder of results.
        slide_ids: slides to check; empty for all that are done, and the tables.
        workers: number of processes; None for one per core.
        observe: called with the check of each slide as soon as it is complete.

    Raises:
        UsageError: if there are no results, or a slide is named that is not done.
    """
    rows, table_faults = read_tables(out)
    listed = {slide_id for slide_id, row in rows.items() if row["status"] == "done"}
    done = {path.parent.name for path in (out / "slides").glob("*/summary.json")} | listed
    _check_request(out, set(slide_ids) - done)
    jobs = [_Job(str(out), name, rows.get(name)) for name in sorted(set(slide_ids) or done)]
    checks = _run(jobs, workers, observe)
    return Verification(checks, () if slide_ids else tuple(table_faults))


def _check_request(out: Path, not_done: set[str]) -> None:
    if (out / "slides").is_symlink():
        raise UsageError(
            f"{out / 'slides'} is a link, which no run makes; it is not followed. Replace it by "
            "the folder that it leads to"
        )
    if not (out / "slides").is_dir():
        raise UsageError(f"{out} holds no results of noctile: it has no folder 'slides'")
    if not_done:
        names = ", ".join(map(repr, sorted(not_done)))
        raise UsageError(f"{out}: no slide {names} is done; see `noctile status {out}`")


@dataclass(frozen=True, slots=True)
class _Job:
    """Check of one slide.

    Attributes:
        out: folder of results.
        key: id of the slide.
        row: row of the slide in ``slides.parquet``; None if it has none.
        limit_s: time limit (s).
    """

    out: str
    key: str
    row: Row | None
    limit_s: float = inf

    @property
    def group(self) -> str:
        """The slide's id: each slide is a group of its own."""
        return self.key


def _run(
    jobs: Sequence[_Job], workers: int | None, observe: Callable[[SlideCheck], None]
) -> tuple[SlideCheck, ...]:
    """Do the jobs on an engine, and return the checks by slide id."""
    queue, checks = iter(jobs), []
    with closing(_engine(min(workers or cores(), len(jobs)))) as engine:
        for outcome in engine.run(_do, lambda: next(queue, None)):
            check = _checked(outcome)
            checks.append(check)
            observe(check)
    return tuple(sorted(checks, key=lambda check: check.slide_id))


def _engine(workers: int) -> Engine:
    if workers <= 1:
        return SerialEngine()
    from noctile.workflows.engines.dask import DaskEngine  # noqa: PLC0415 - slow to load

    return DaskEngine(
        workers, env={"OMP_NUM_THREADS": "1"}, preload=("noctile.workflows.commands.verify",)
    )


def _do(job: _Job) -> SlideCheck:
    return verify_slide(SlideFolder(Path(job.out) / "slides" / job.key), job.row)


def _checked(outcome: Outcome) -> SlideCheck:
    """Return the check of a slide; a check that failed becomes a fault of the slide."""
    if outcome.failure is None:
        check: SlideCheck = outcome.value
        return check
    what = f"cannot be checked: {outcome.failure.message}"
    fault = Fault(f"slides/{outcome.key}", what, segment_again(outcome.key))
    return SlideCheck(outcome.key, (fault,))
