"""``noctile cohort``."""

from pathlib import Path
from typing import Any

import click

from noctile.console.options import FILE, FOLDER, printing
from noctile.console.printer import Printer

_MOST_NAMED = 5
"""Most files that a warning names; a table has all."""


@click.command("cohort")
@click.argument("results", type=FOLDER)
@click.option("--clinical", type=FILE, help="CSV or .xlsx with slide_id or patient_id.")
@click.option("--patient", metavar="COLUMN", help="Column of its patients, if not patient_id.")
@click.option("--by", metavar="COLUMN", help="Column to compare (default: the only one).")
@click.option("--time", metavar="COLUMN", help="Column with survival times.")
@click.option("--event", metavar="COLUMN", help="Column with 1 for an event, 0 for none.")
@click.option(
    "--cut",
    "cuts",
    metavar="MEASURE=VALUE",
    multiple=True,
    help="Cut for survival that was stated before; again for more.",
)
@click.option("--audit", is_flag=True, help="Correct areas with the answers of noctile audit.")
@click.option("--truth", type=FOLDER, help="GeoJSON of slides that were annotated in full.")
@click.option(
    "--out", type=FILE, default=Path("cohort"), show_default=True, help="Folder to write."
)
@printing(as_json=True)
def command(results: Path, out: Path, printer: Printer, **asked: Any) -> None:
    """Compare the patients of RESULTS: tables, tests, plots, and a page to read.

    Slides of a patient are added up. The page says what may and may not be concluded.
    """
    from noctile.console.documents import cohort_document
    from noctile.pipeline.patients.annotated import why_unused
    from noctile.pipeline.patients.flow import counted
    from noctile.workflows.commands.cohort import Asked, cohort_results

    result = cohort_results(results, out, Asked(**asked))
    flow = result.analysis.flow
    if flow.own_patients:
        printer.warn(
            f"nothing names the patient of {counted(flow.own_patients, 'slide')}: each slide "
            "counts as a patient of its own"
        )
    if flow.unmatched_rows:
        printer.warn(
            f"{counted(flow.unmatched_rows, 'row')} of the clinical table without a slide: "
            f"{out / 'exclusions.csv'}"
        )
    if result.annotated and (unused := result.annotated.unused):
        files = "; ".join(f"{slide.file}: {why_unused(slide)}" for slide in unused[:_MOST_NAMED])
        more = "; ..." if len(unused) > _MOST_NAMED else ""
        printer.warn(f"{counted(len(unused), 'annotated slide')} not used: {files}{more}")
    for answer in result.conclusions.answers:
        printer.result(answer)
    kept, all_ = flow.analysed, flow.submitted
    printer.result(
        f"{result.page}: {kept.patients} of {all_.patients} patients, {kept.slides} of "
        f"{all_.slides} slides"
    )
    printer.document(cohort_document(result, out))
