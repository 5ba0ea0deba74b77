"""``noctile plan``."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.display import Display
from noctile.console.options import printing, read_call, run_options
from noctile.console.printer import Printer
from noctile.console.summary import MAX_ROWS, group_lines, grouped, whole

if TYPE_CHECKING:
    from rich.table import Table

    from noctile.workflows.commands.plan import PlanResult
    from noctile.workflows.run.preflight import PlannedSlide


@click.command("plan")
@run_options
@printing(as_json=True)
def command(
    slides: tuple[str, ...],
    out: Path | None,
    manifest: Path | None,
    config: Path | None,
    printer: Printer,
    **options: Any,
) -> None:
    """Check SLIDES before a run.

    Names slides that will fail, with reasons. Estimates tissue, predictions, hours, disk and
    memory. Writes no mask. Takes the options of `noctile run`, which then continues from here.
    """
    from noctile.console.documents import plan_document
    from noctile.workflows.commands.plan import plan_slides

    settings, found, folder = read_call(slides, out, manifest, config, options, printer)
    with Display(printer, len(found.slides)) as display:
        result = plan_slides(found.slides, settings, folder, display)
    _print_result(printer, result, folder)
    printer.document(plan_document(result, folder))
    sys.exit(result.exit_code)


def _print_result(printer: Printer, result: "PlanResult", out: Path) -> None:
    if printer.verbose or len(result.slides) <= MAX_ROWS:
        printer.result(_table(result.slides))
    else:
        notes = ((note, s.slide_id) for s in result.slides for note in _kinds(s))
        printer.result(group_lines("note", grouped(notes), printer.width))
    failed = [slide for slide in result.slides if slide.state == "failed"]
    reasons = grouped((slide.reason, slide.slide_id) for slide in failed)
    printer.result(group_lines("will fail", reasons, printer.width), important=True)
    if result.stopped:
        printer.result(f"stopped: {result.stopped}; the same command continues", important=True)
    for line in result.totals():
        printer.result(line)
    printer.result(f"all columns: {out / 'plan.csv'}", important=bool(failed))


def _table(slides: "Iterable[PlannedSlide]") -> "Table":
    """Make a table with a row for each slide; slides that will fail come first."""
    from rich.markup import escape
    from rich.table import Table

    columns = ("um/px", "from", "tissue mm2", "predictions", whole("flags / reason"))
    table = Table(whole("slide"), *columns)
    for slide in sorted(slides, key=lambda slide: (slide.state != "failed", slide.slide_id)):
        mpp = f"{slide.mpp[1]:.4g}" if slide.mpp else ""
        known = slide.tissue_area_mm2 is not None
        cells = [f"{slide.tissue_area_mm2:.2f}", str(slide.predictions)] if known else ["", ""]
        notes = escape(", ".join(_notes(slide)))
        table.add_row(escape(slide.slide_id), mpp, slide.mpp_source, *cells, notes)
    return table


def _notes(slide: "PlannedSlide") -> list[str]:
    """Return failure code, flags, an equal slide, and "done already" for a finished result."""
    notes = [slide.reason, *slide.qc_flags]
    if slide.same_file:
        notes.append(f"same file as {slide.same_file}")
    elif slide.same_content:
        notes.append(f"same content as {slide.same_content}")
    if slide.state == "done":
        notes.append("done already")
    return [note for note in notes if note]


def _kinds(slide: "PlannedSlide") -> list[str]:
    """Return the notes on a slide that are not its failure, without names of other slides."""
    equal = "same file" if slide.same_file else "same content" if slide.same_content else ""
    done = "done already" if slide.state == "done" else ""
    return [note for note in (*slide.qc_flags, equal, done) if note]
