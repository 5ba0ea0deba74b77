"""``noctile run``."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.display import Display, open_console, print_line, whole
from noctile.console.options import read_call, run_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from noctile.workflows.run.progress import RunResult


@click.command("run")
@run_options
def command(
    slides: tuple[str, ...], out: Path, manifest: Path | None, config: Path | None, **options: Any
) -> None:
    """Segment SLIDES into --out.

    SLIDES are files, folders and globs. The same command continues a run that was stopped or
    killed.
    """
    from noctile.workflows.run.run import run_slides

    settings, entries = read_call(slides, out, manifest, config, options)
    console = open_console()
    with Display(console, len(entries)) as display:
        result = run_slides(entries, settings, out, display)
    _print_result(console, result, out)
    sys.exit(result.exit_code)


def _print_result(console: "Console", result: "RunResult", out: Path) -> None:
    print_line(console, f"results in {out}: slides.csv, slides.parquet, slides/<slide_id>/")
    console.print(_table(result))
    statuses = Counter(row.status for row in result.rows)
    counts = ", ".join(
        f"{statuses[status]} {status}"
        for status in ("done", "failed", "skipped")
        if statuses[status] or status == "done"
    )
    tumor_mm2 = sum(row.summary.get("tumor_area_mm2", 0.0) for row in result.rows)
    total = f"{counts}; tumor {tumor_mm2:.3f} mm2 in all; {result.pace}"
    console.print(total, highlight=False, soft_wrap=True)
    if result.stopped:
        left = f"{statuses['done']} of {len(result.rows)} slides done, {statuses['skipped']} left"
        print_line(console, f"stopped, {result.stopped}: {left}; the same command continues")


def _table(result: "RunResult") -> "Table":
    """Make a table with a row for each slide; a failure has its code, not its message."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(whole("slide"), "status", "tumor mm2", "tissue mm2", whole("flags / reason"))
    for row in result.rows:
        areas = (row.summary.get(name) for name in ("tumor_area_mm2", "tissue_area_mm2"))
        cells = [f"{area:.3f}" if area is not None else "" for area in areas]
        why = row.reason or ", ".join(row.qc_flags or ())
        table.add_row(escape(row.slide_id), row.status, *cells, escape(why))
    return table
