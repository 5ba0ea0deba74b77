"""``noctile plan``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.display import Display, open_console, print_line, whole
from noctile.console.options import read_call, run_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from noctile.workflows.commands.plan import PlanResult
    from noctile.workflows.run.preflight import PlannedSlide


@click.command("plan")
@run_options
def command(
    slides: tuple[str, ...], out: Path, manifest: Path | None, config: Path | None, **options: Any
) -> None:
    """Check SLIDES before a run.

    Names slides that will fail, with reasons. Estimates tissue, predictions, hours, disk and
    memory. Writes no mask. Takes the options of `noctile run`, which then continues from here.
    """
    from noctile.workflows.commands.plan import plan_slides

    settings, entries = read_call(slides, out, manifest, config, options)
    console = open_console()
    with Display(console, len(entries)) as display:
        result = plan_slides(entries, settings, out, display)
    _print_result(console, result, out)
    sys.exit(result.exit_code)


def _print_result(console: "Console", result: "PlanResult", out: Path) -> None:
    console.print(_table(result))
    if result.stopped:
        print_line(console, f"stopped: {result.stopped}; the same command continues")
    for line in result.totals():
        print_line(console, line)
    print_line(console, f"all columns: {out / 'plan.csv'}")


def _table(result: "PlanResult") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    columns = ("um/px", "from", "tissue mm2", "predictions", whole("flags / reason"))
    table = Table(whole("slide"), *columns)
    for slide in result.slides:
        mpp = f"{slide.mpp[1]:.4g}" if slide.mpp else ""
        known = slide.tissue_area_mm2 is not None
        cells = [f"{slide.tissue_area_mm2:.2f}", str(slide.predictions)] if known else ["", ""]
        notes = escape(", ".join(_notes(slide)))
        table.add_row(escape(slide.slide_id), mpp, slide.mpp_source, *cells, notes)
    return table


def _notes(slide: "PlannedSlide") -> list[str]:
    """Return failure code, flags, an equal slide, and "done already" for a finished result."""
    notes = [slide.reason, *slide.flags]
    if slide.same_file:
        notes.append(f"same file as {slide.same_file}")
    elif slide.same_content:
        notes.append(f"same content as {slide.same_content}")
    if slide.state == "done":
        notes.append("done already")
    return [note for note in notes if note]
