"""``noctile view``."""

from pathlib import Path

import click

from noctile.console.options import FOLDER, printing, show_page, viewer_options
from noctile.console.printer import Printer


@click.command("view")
@click.argument("results", type=FOLDER)
@viewer_options
@click.option("--reviewer", metavar="NAME", help="Name in the reviews (default: your user name).")
@click.option("--slide", "slide_id", metavar="ID", help="Slide that is shown first.")
@printing()
def command(
    results: Path,
    port: int,
    reviewer: str | None,
    slide_id: str | None,
    *,
    no_browser: bool,
    printer: Printer,
) -> None:
    """Look at slides, masks and heat maps in the browser, and review them.

    Only this machine can open the address that is printed. RESULTS may be in use by a run. Ctrl-C
    ends the viewer.
    """
    from noctile.workflows.viewer.server import serve

    def show(url: str) -> None:
        shown, end = f"{results} is shown at", "Ctrl-C ends the viewer"
        show_page(printer, shown, url, end, no_browser=no_browser)

    serve(results, port, reviewer, slide_id, show)
