"""``noctile annotate``."""

import sys
from pathlib import Path

import click

from noctile.console.exit_codes import SOME_FAILED
from noctile.console.options import FOLDER, printing
from noctile.console.printer import Printer


@click.command("annotate")
@click.argument("slides", nargs=-1, required=True)
@click.option("--out", required=True, type=FOLDER, help="Folder for the masks.")
@click.option("--mpp", type=float, help="Pixel size (um), where the files state none.")
@printing()
def command(slides: tuple[str, ...], out: Path, mpp: float | None, printer: Printer) -> None:
    """Mark tumor candidates by stain.

    SLIDES are slides or images. Only their stains are used: a start for annotations by hand.
    """
    from noctile.workflows.commands.annotate import annotate

    rows = annotate(slides, out, mpp, printer.result)
    sys.exit(SOME_FAILED if any(row.status == "failed" for row in rows) else 0)
