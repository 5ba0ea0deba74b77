"""``noctile view``."""

import webbrowser
from pathlib import Path
from threading import Thread

import click

from noctile.console.options import FOLDER, printing
from noctile.console.printer import Printer


@click.command("view")
@click.argument("results", type=FOLDER)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="any free one",
    help="Port on which the viewer listens.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
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
        printer.result(f"{results} is shown at", important=True)
        printer.result(url, important=True)
        printer.result("Ctrl-C ends the viewer")
        if not no_browser:
            Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serve(results, port, reviewer, slide_id, show)
