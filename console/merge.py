"""``noctile merge``."""

import sys
from functools import partial
from pathlib import Path

import click

from noctile.console.options import FILE, FOLDER, printing
from noctile.console.printer import Printer


@click.command("merge")
@click.argument("folders", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=FILE, required=True, help="Folder that gets all slides (required).")
@printing()
def command(folders: tuple[Path, ...], out: Path, printer: Printer) -> None:
    """Join FOLDERS of results in one folder.

    FOLDERS are only read. The same slide comes once: what stands in OUT or comes first stays.
    """
    from noctile.console.options import check_out
    from noctile.workflows.commands.merge import merge_results
    from noctile.workflows.results.run_log import RunLog

    check_out(out)
    result = merge_results(folders, out, partial(printer.progress, detail=True))
    printer.log_to(RunLog(out / "run.log"))
    for line in result.notes:
        printer.warn(line)
    for line in (*result.refused, *result.damaged):
        printer.result(line, important=True)
    renamed = f", {len(result.renamed)} of them under longer ids" if result.renamed else ""
    left_out = f", {len(result.refused) + len(result.damaged)} left out"
    names = ", ".join(map(str, folders))
    printer.result(
        f"{names}: {result.copied} results copied{renamed}, {result.stood} stood already"
        f"{left_out if result.exit_code else ''}",
        important=result.exit_code != 0,
    )
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.counts.items()))
    printer.result(f"{out / 'slides.csv'}: {counts or 'no slides'}")
    sys.exit(result.exit_code)
