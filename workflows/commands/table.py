"""Tables of a folder of results, written anew, with the cells of a manifest added."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.manifest_cells import manifest_cells
from noctile.pipeline.parquet import read_parquet
from noctile.pipeline.slides.links import real_path
from noctile.pipeline.slides.manifest import ManifestRow, read_manifest
from noctile.pipeline.slides.names import fold_name, slide_id_problem
from noctile.pipeline.untrusted import printable
from noctile.workflows.results.guard import check_holds_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.report import Report
from noctile.workflows.results.staging import take_healed
from noctile.workflows.results.standing import Standing
from noctile.workflows.results.tables import Tables
from noctile.workflows.run.submission import cells

_NAMED = 5
"""Most unknown slides that a line names."""


@dataclass(frozen=True, slots=True)
class TableResult:
    """Result of ``noctile table``.

    Attributes:
        counts: number of slides by status.
        reviews: number of slides by review status.
        matched: number of rows of the manifest that fit one slide of the folder.
        unmatched: one line for each other row, with the reason.
        review_faults: one line for each file of reviews that cannot be used, and one for reviews of
            unknown slides.
    """

    counts: Mapping[str, int]
    reviews: Mapping[str, int]
    matched: int
    unmatched: tuple[str, ...]
    review_faults: tuple[str, ...]


def write_tables_anew(out: Path, manifest: Path | None) -> TableResult:
    """Write ``slides.csv`` and ``slides.parquet`` from what stands in a folder of results.

    Args:
        out: folder of results.
        manifest: manifest whose cells are added to those of earlier ones; where both have a cell,
            the new one counts. None for no new cells.

    Raises:
        UsageError: if the folder holds no results, another run holds it, or the manifest cannot be
            read.
        StoreError: if the file system refuses.
    """
    manifest_rows = read_manifest(manifest) if manifest else []
    with held_for_tables(out) as (results, ledger):
        standing = Standing(results, ledger.state)
        import_cells(results, ledger)
        unmatched = list(_add_cells(manifest_rows, ledger, standing.rows()))
        Tables(results, standing).write()
        Report(results).write()
        rows = standing.rows()
        counts = Counter[str](row.status for row in rows)
        reviews = Counter(s for row in rows if (s := row.review.get("review_status")))
    matched = len(manifest_rows) - len(unmatched)
    return TableResult(
        counts, reviews, matched, tuple(unmatched), tuple(_review_faults(standing, out))
    )


def _review_faults(standing: Standing, out: Path) -> Iterator[str]:
    """Yield a line for each file of reviews that cannot be used, and one for unknown slides."""
    yield from standing.review_faults
    if names := standing.reviewed_elsewhere:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        named = printable(", ".join(names[:_NAMED]))
        yield f"{out} has reviews of slides that it does not know: {named}{more}"


@contextmanager
def held_for_tables(out: Path) -> Iterator[tuple[ResultsFolder, Ledger]]:
    """Hold a folder of results, healed, with its ledger open.

    Raises:
        UsageError: if the folder holds no results, cannot be written, or another run holds it.
    """
    results = ResultsFolder(out.resolve())
    check_holds_results(results, out)
    with (
        closing(take_healed(results, str(out), lambda _: None)),
        closing(Ledger(results.ledger)) as ledger,
    ):
        yield results, ledger


def import_cells(results: ResultsFolder, ledger: Ledger) -> None:
    """Record the cells of the tables of an earlier version, whose ledger does not have them."""
    table = results.cohort_parquet
    if not table.exists() or all(s.submitted or s.left_out for s in ledger.state.slides.values()):
        return
    known = manifest_cells(table)
    rows = read_parquet(table, ["slide_id", "path"]).select(["slide_id", "path"]).to_pylist()
    for slide_id, path in ((row["slide_id"], str(row["path"])) for row in rows):
        if slide_id_problem(slide_id):
            continue
        slide = ledger.state.slide(slide_id)
        if not (slide.submitted or slide.left_out):
            ledger.submitted(slide_id, path, (-1, -1), known[slide_id])


def _add_cells(
    manifest_rows: Iterable[ManifestRow], ledger: Ledger, rows: Iterable[SlideRow]
) -> Iterator[str]:
    """Record the cells of a manifest; yield a line for each row that fits no single slide."""
    ids_of = _ids_by_name(rows)
    for row in manifest_rows:
        ids = sorted(_matches(row, ids_of))
        if len(ids) == 1:
            _record(ledger, ids[0], row)
        else:
            fits = f"fits {len(ids)} slides ({', '.join(ids)})" if ids else "is not there"
            yield f"{row.location}: {row.name} {fits}"


def _ids_by_name(rows: Iterable[SlideRow]) -> dict[str, set[str]]:
    """Slide ids by their own name, by path, by file name and by stem."""
    ids_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        names = (str(real_path(row.path)), row.path.name, row.path.stem)
        for name in (f"id {fold_name(row.slide_id)}", *names):
            ids_of[name].add(row.slide_id)
    return ids_of


def _matches(row: ManifestRow, ids_of: Mapping[str, set[str]]) -> set[str]:
    """Slide ids that a row fits: by id, else by path, else by file name."""
    path, wanted = row.path, row.slide_id
    names = [f"id {fold_name(wanted)}"] if wanted else []
    names += [str(real_path(path)), path.name] if path else []
    names += [name for name in (wanted, path.stem if path else None) if name]
    return next((ids_of[name] for name in names if name in ids_of), set())


def _record(ledger: Ledger, slide_id: str, row: ManifestRow) -> None:
    """Record the cells of one row; a path that was left out stays so."""
    slide = ledger.state.slide(slide_id)
    before = None if slide.left_out else slide.submitted
    path, state = (before.path, (before.size, before.mtime_ns)) if before else ("", (-1, -1))
    ledger.submitted(slide_id, path, state, cells(row))
