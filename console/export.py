"""``noctile export``."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from noctile.console.options import FILE, FOLDER, Words, printing
from noctile.console.printer import Printer
from noctile.pipeline.export.formats import FORMATS, WORKBOOK


@click.command("export")
@click.argument("results", type=FOLDER)
@click.argument("more_slides", nargs=-1, metavar="")
@click.option(
    "--to",
    required=True,
    type=Words(*FORMATS, WORKBOOK),
    help="Formats, separated by commas (required).",
)
@click.option(
    "--slides", multiple=True, metavar="ID...", help="Ids of slides (default: all that are done)."
)
@click.option(
    "--out", type=FILE, help="Folder for the files (default: exports/<format> in RESULTS)."
)
@click.option("--classes", help="Classes to export, separated by commas (geojson; default: all).")
@click.option(
    "--simplify",
    "simplify_um",
    type=click.FloatRange(0, max_open=False),
    metavar="UM",
    help="Most that an outline may move (um); 0: pixel edges (geojson; default: 0.3 mask pixels).",
)
@click.option(
    "--min-area",
    "min_area_um2",
    type=click.FloatRange(0),
    metavar="UM2",
    help="Leave out foci that are smaller (um2; geojson; default: 0).",
)
@click.option(
    "--min-hole",
    "min_hole_um2",
    type=click.FloatRange(0),
    metavar="UM2",
    help="Fill holes that are smaller (um2; geojson; default: 0).",
)
@click.option(
    "--labelmap",
    is_flag=True,
    default=None,
    help="One frame for all classes, which few viewers read yet (dicom-seg).",
)
@printing(as_json=True)
def command(
    results: Path,
    more_slides: tuple[str, ...],
    to: str,
    slides: tuple[str, ...],
    out: Path | None,
    printer: Printer,
    **options: Any,
) -> None:
    """Write files that other programs open, one for each slide; xlsx is one file for all.

    RESULTS is a folder of results. A file that is there and not older than its result stays.
    """
    from noctile.console.documents import export_document
    from noctile.pipeline.errors import UsageError
    from noctile.workflows.commands.export import export_results

    if more_slides and not slides:
        raise UsageError(f"export takes one folder; found {more_slides[0]} behind it, too")
    if options["classes"] is not None:
        options["classes"] = _listed(options["classes"])
    given = {name: value for name, value in options.items() if value is not None}
    ids = (*slides, *more_slides)
    observe = partial(printer.progress, detail=True)
    result = export_results(results, _listed(to), ids, out, given, observe)
    printer.result(result.failed, important=True)
    counts = f"{len(result.written)} files written, {len(result.current)} were current"
    failed = f", {len(result.failed)} failed" if result.failed else ""
    folders = ", ".join(map(str, result.folders.values()))
    printer.result(f"{folders}: {counts}{failed}", important=bool(failed))
    printer.document(export_document(result, results))
    sys.exit(result.exit_code)


def _listed(text: str) -> tuple[str, ...]:
    """Words of a text with commas, each once."""
    words = (word.strip() for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))
