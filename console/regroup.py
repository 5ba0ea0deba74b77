"""``noctile regroup``."""

import sys
from functools import partial
from pathlib import Path

import click

from noctile.console.options import FILE, FOLDER, printing
from noctile.console.printer import Printer


@click.command("regroup")
@click.argument("results", type=FOLDER)
@click.option(
    "--classes",
    "groups",
    type=FILE,
    required=True,
    help="TOML file with the new classes, or a new threshold.",
)
@click.option("--out", type=FILE, required=True, help="Folder for the new results.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one per core).")
@printing(as_json=True)
def command(results: Path, groups: Path, out: Path, workers: int | None, printer: Printer) -> None:
    """Merge classes of RESULTS, or find tumor by another threshold.

    Nothing is predicted again, and no GPU is needed. RESULTS is only read. The same command
    continues after a kill.
    """
    from noctile.console.documents import regroup_document
    from noctile.console.options import check_out
    from noctile.workflows.commands.regroup import regroup_results
    from noctile.workflows.results.run_log import RunLog

    check_out(out)
    result = regroup_results(results, groups, out, workers, partial(printer.progress, detail=True))
    printer.log_to(RunLog(out / "run.log"))
    for slide_id, why in sorted(result.damaged.items()):
        line = f"{slide_id} is left out: {why}; see `noctile verify {results}`"
        printer.result(line, important=True)
    for line in result.reviews.notes:
        printer.warn(line)
    for line in result.reviews.damaged:
        printer.result(line, important=True)
    left_out = f", {len(result.damaged)} left out" if result.damaged else ""
    printer.result(
        f"{results}: {result.made} results made with new classes, {result.stood} stood already"
        f"{left_out}",
        important=result.exit_code != 0,
    )
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.counts.items()))
    printer.result(f"{out / 'slides.csv'}: {counts or 'no slides'}")
    printer.document(regroup_document(result, out))
    sys.exit(result.exit_code)
