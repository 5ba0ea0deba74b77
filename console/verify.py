"""``noctile verify``."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from noctile.console.options import FOLDER, printing
from noctile.console.printer import Printer

if TYPE_CHECKING:
    from noctile.workflows.commands.verify import Verification
    from noctile.workflows.commands.verify_slide import SlideCheck


@click.command("verify")
@click.argument("out", type=FOLDER)
@click.option(
    "--slides",
    "slide_ids",
    multiple=True,
    metavar="ID",
    help="Only this slide; may be given several times.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one per core).")
@printing(as_json=True)
def command(out: Path, slide_ids: tuple[str, ...], workers: int | None, printer: Printer) -> None:
    """Check that results are complete and intact.

    Reads everything in OUT again and compares masks, areas and tables. Changes nothing.
    """
    from noctile.console.documents import verify_document
    from noctile.workflows.commands.status import current_run
    from noctile.workflows.commands.verify import verify

    if (run := current_run(out)) and run.alive:
        printer.warn(f"a run is at work ({run.holder}): files that it is writing may look wrong")
    result = verify(out, slide_ids, workers, partial(_print_check, printer))
    _print_result(printer, result)
    printer.document(verify_document(result, out))
    sys.exit(result.exit_code)


def _print_check(printer: Printer, check: "SlideCheck") -> None:
    """Print one line for a slide with faults: the first fault and the number of others."""
    if check.faults:
        first, more = check.faults[0], len(check.faults) - 1
        also = f" (and {more} more)" if more and not printer.verbose else ""
        line = f"{check.slide_id}: {first.file} {first.what}{also}; {first.remedy}"
        printer.result(line, important=True)
    for fault in check.faults[1:] if printer.verbose else ():
        printer.result(f"  {fault.file} {fault.what}; {fault.remedy}", important=True)


def _print_result(printer: Printer, result: "Verification") -> None:
    for fault in result.tables:
        printer.result(f"{fault.file} {fault.what}; {fault.remedy}", important=True)
    tables = f", {len(result.tables)} faults in the tables" if result.tables else ""
    total = f"{len(result.slides)} slides read again: {len(result.wrong)} wrong{tables}"
    printer.result(total, important=result.exit_code != 0)
