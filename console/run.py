"""``noctile run``."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.display import Display
from noctile.console.options import printing, read_call, run_options
from noctile.console.printer import Printer
from noctile.console.summary import MAX_ROWS, group_lines, grouped, review_counts, whole

if TYPE_CHECKING:
    from rich.table import Table

    from noctile.pipeline.cohort import SlideRow
    from noctile.workflows.run.progress import RunResult


@click.command("run")
@run_options
@printing(as_json=True)
def command(
    slides: tuple[str, ...],
    out: Path | None,
    manifest: Path | None,
    config: Path | None,
    printer: Printer,
    **options: Any,
) -> None:
    """Segment SLIDES into --out.

    SLIDES are files, folders and globs. The same command continues a run that was stopped or
    killed.
    """
    from noctile.console.documents import run_document
    from noctile.workflows.results.layout import ResultsFolder
    from noctile.workflows.results.run_log import RunLog
    from noctile.workflows.run.run import run_slides

    settings, found, folder = read_call(slides, out, manifest, config, options, printer)
    log = RunLog(ResultsFolder(folder).run_log)
    with Display(printer, len(found.slides), log) as display:
        result = run_slides(found.slides, settings, folder, display, found.left_out)
    _print_result(printer, result, folder)
    printer.document(run_document(result, folder))
    sys.exit(result.exit_code)


def _print_result(printer: Printer, result: "RunResult", out: Path) -> None:
    printer.result(f"results in {out}: slides.csv, slides.parquet, slides/<slide_id>/")
    if printer.verbose or len(result.rows) <= MAX_ROWS:
        printer.result(_table(result.rows))
    else:
        flagged = ((flag, r.slide_id) for r in result.rows for flag in r.qc_flags or ())
        printer.result(group_lines("flag", grouped(flagged), printer.width))
    failed = [row for row in result.rows if row.status == "failed"]
    important = bool(failed or result.stopped)
    reasons = grouped((row.reason, row.slide_id) for row in failed)
    printer.result(group_lines("failed", reasons, printer.width), important=True)
    if failed:
        printer.result(f"why each failed: noctile status {out} --failed", important=True)
    if result.not_exported:
        lines = f"{len(result.not_exported)} slides are done and not exported: see run.log, and"
        printer.result(f"{lines} type the same command again", important=True)
    if result.stopped:
        done, left = result.count("done"), result.count("skipped")
        state = f"{done} of {len(result.rows)} slides done, {left} left"
        printer.result(
            f"stopped, {result.stopped}: {state}; the same command continues", important=True
        )
    printer.result(_total(result), important=important)


def _total(result: "RunResult") -> str:
    counts = {status: result.count(status) for status in ("done", "failed", "skipped")}
    shown = [f"{n} {status}" for status, n in counts.items() if n or status == "done"]
    tumor_mm2 = sum(row.summary.get("tumor_area_mm2", 0.0) for row in result.rows)
    statuses = (row.review.get("review_status") for row in result.rows)
    reviews = review_counts(Counter(filter(None, statuses)))
    return f"{', '.join(shown)}; tumor {tumor_mm2:.3f} mm2 in all; {result.pace}{reviews}"


def _table(rows: "list[SlideRow]") -> "Table":
    """Make a table with a row for each slide, failures first; a failure has its code only."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(whole("slide"), "status", "tumor mm2", "tissue mm2", whole("flags / reason"))
    order = ("failed", "skipped", "done")
    for row in sorted(rows, key=lambda row: (order.index(row.status), row.slide_id)):
        areas = (row.summary.get(name) for name in ("tumor_area_mm2", "tissue_area_mm2"))
        cells = [f"{area:.3f}" if area is not None else "" for area in areas]
        why = row.reason or ", ".join(row.qc_flags or ())
        table.add_row(escape(row.slide_id), row.status, *cells, escape(why))
    return table
