"""``noctile verify``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from noctile.console.options import FOLDER

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
def command(out: Path, slide_ids: tuple[str, ...], workers: int | None) -> None:
    """Check that results are complete and intact.

    Reads everything in OUT again and compares masks, areas and tables. Changes nothing.
    """
    from noctile.workflows.commands.status import current_run
    from noctile.workflows.commands.verify import verify

    if (run := current_run(out)) and run.alive:
        click.echo(f"a run is at work ({run.holder}): files that it is writing may look wrong")
    result = verify(out, slide_ids, workers, _print_check)
    _print_result(result)
    sys.exit(result.exit_code)


def _print_check(check: "SlideCheck") -> None:
    """Print one line for a slide with faults: the first fault and the number of others."""
    if check.faults:
        first, more = check.faults[0], len(check.faults) - 1
        also = f" (and {more} more)" if more else ""
        click.echo(f"{check.slide_id}: {first.file} {first.what}{also}; {first.remedy}")


def _print_result(result: "Verification") -> None:
    for fault in result.tables:
        click.echo(f"{fault.file} {fault.what}; {fault.remedy}")
    if result.unlisted:
        click.echo(
            f"{len(result.unlisted)} slides are done and not in the tables: an earlier call on "
            "this folder made them"
        )
    tables = f", {len(result.tables)} faults in the tables" if result.tables else ""
    click.echo(f"{len(result.slides)} slides read again: {len(result.wrong)} wrong{tables}")
