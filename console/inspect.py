"""``noctile inspect``."""

import sys
from pathlib import Path

import click

from noctile.console.display import open_console
from noctile.console.options import FILE, complete_model


@click.command("inspect")
@click.argument("slide", type=FILE)
@click.option("--mpp", type=float, help="Pixel size of level 0 (um), where the file states none.")
@click.option(
    "--model", shell_complete=complete_model, help="Model whose tiles are counted (default: tumor)."
)
@click.option(
    "--thumbnail", type=FILE, help="Write the slide with its tissue outlined (JPEG, PNG)."
)
def command(slide: Path, mpp: float | None, model: str | None, thumbnail: Path | None) -> None:
    """Describe one slide.

    Vendor, levels, pixel size and its source, compression, tissue and tiles of SLIDE.
    """
    from rich.markup import escape
    from rich.table import Table

    from noctile.workflows.commands.inspect import inspect_slide
    from noctile.workflows.settings import load_settings

    description = inspect_slide(slide, mpp, load_settings(None, model=model), thumbnail)
    table = Table(show_header=False, box=None)
    for name, value in description.items():
        table.add_row(name, escape(value))
    open_console(sys.stdout).print(table)
