"""``noctile diff``."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from noctile.console.options import FILE, FOLDER, printing
from noctile.console.printer import Printer

if TYPE_CHECKING:
    from noctile.workflows.commands.diff import DiffResult

_NAMED = 5
"""Number of slides with the largest change that are printed."""


@click.command("diff")
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@click.option("--out", type=FILE, required=True, help="Folder for the comparison (required).")
@click.option("--match", type=FILE, help="CSV with the columns a and b: slide_ids that belong.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one per core).")
@printing(as_json=True)
def command(
    a: Path, b: Path, out: Path, match: Path | None, workers: int | None, printer: Printer
) -> None:
    """Compare two folders of results, slide by slide.

    A and B are only read. Writes tables, a page with plots, and change maps.
    """
    from noctile.console.documents import diff_document
    from noctile.workflows.commands.diff import diff_results
    from noctile.workflows.commands.status import current_run
    from noctile.workflows.results.run_log import RunLog

    for folder in (a, b):
        if (run := current_run(folder)) and run.alive:
            printer.warn(f"a run is at work in {folder} ({run.holder}): more slides may come")
    result = diff_results(a, b, out, match, workers, partial(printer.progress, detail=True))
    printer.log_to(RunLog(out / "run.log"))
    _print_result(printer, result, out)
    printer.document(diff_document(result, out))
    sys.exit(result.exit_code)


def _print_result(printer: Printer, result: "DiffResult", out: Path) -> None:
    for row in result.rows:
        if row["status"] != "compared":
            line = f"{row['slide_id']}: {row['status']}: {row['message']}"
            printer.result(line, important=row["status"] == "unreadable")
    compared = [row for row in result.rows if row["status"] == "compared"]
    for row in compared[:_NAMED]:
        change, dice = row["tumor_area_difference_mm2"], row["tumor_dice"]
        shown = "none" if dice is None else f"{dice:.3f}"
        printer.result(f"{row['slide_id']}: tumor {change:+.3f} mm2, Dice {shown}")
    if limits := result.limits:
        printer.result(
            f"tumor area, b - a: bias {limits.bias.value:.3f} mm2, limits of agreement "
            f"{limits.lower.value:.3f} to {limits.upper.value:.3f} mm2 ({limits.n} slides)"
        )
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.counts.items()))
    printer.result(f"{out / 'index.html'}: {counts or 'no slides'}")
