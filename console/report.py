"""``noctile report``."""

from pathlib import Path

import click

from noctile.console.options import FOLDER, printing
from noctile.console.printer import Printer


@click.command("report")
@click.argument("results", type=FOLDER)
@printing()
def command(results: Path, printer: Printer) -> None:
    """Write index.html, the page that shows RESULTS in a browser.

    It lists the slides that failed and those that need a look, and has a table of all slides.
    Every run writes it too. A run may be at work in RESULTS.
    """
    from noctile.workflows.commands.report import report_results

    counts = ", ".join(f"{n} {status}" for status, n in sorted(report_results(results).items()))
    printer.result(f"{results / 'index.html'}: {counts or 'no slides'}")
