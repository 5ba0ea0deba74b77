"""``noctile table``."""

from pathlib import Path

import click

from noctile.console.options import FILE, FOLDER, printing
from noctile.console.printer import Printer
from noctile.console.summary import review_counts


@click.command("table")
@click.argument("out", type=FOLDER)
@click.option(
    "--manifest",
    type=FILE,
    help="Add the columns of this CSV or Excel file. Empty cells change nothing.",
)
@printing()
def command(out: Path, manifest: Path | None, printer: Printer) -> None:
    """Write slides.csv and slides.parquet anew.

    The tables have a row for each slide that OUT knows, from all runs. Results stay as they are.
    """
    from noctile.workflows.commands.table import write_tables_anew

    result = write_tables_anew(out, manifest)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.counts.items()))
    for line in (*result.unmatched, *result.review_faults):
        printer.warn(line)
    reviews = review_counts(result.reviews)
    printer.result(f"{out / 'slides.csv'}: {counts or 'no slides'}{reviews}")
    if manifest:
        printer.result(f"{result.matched} rows of {manifest} are in the tables")
