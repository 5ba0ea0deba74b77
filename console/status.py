"""``noctile status``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from noctile.console.options import FOLDER, printing
from noctile.console.printer import Printer
from noctile.console.summary import audit_line, group_lines, grouped, review_counts, shortened

if TYPE_CHECKING:
    from noctile.workflows.commands.status import Status

_MAX_BEGUN = 10
"""Most slides under way that are shown one by one."""

_ID_CHARS = 40
"""Most characters of a slide's id that are shown beside its blocks."""


@click.command("status")
@click.argument("out", type=FOLDER)
@click.option("--failed", is_flag=True, help="List only failed slides, with reasons and reports.")
@printing(as_json=True)
def command(out: Path, failed: bool, printer: Printer) -> None:
    """Show the progress of the run in OUT.

    During or after a run: slides that are done, failed (with reasons), begun and waiting, and the
    expected end.
    """
    from noctile.console.documents import status_document
    from noctile.workflows.commands.status import read_status

    status = read_status(out)
    if status.note:
        printer.warn(status.note)
    if failed:
        printer.result(_failures(status, out), important=True)
    else:
        _print_status(printer, status, out)
    printer.document(status_document(status, state_of(status), out))


def state_of(status: "Status") -> str:
    """State of a run: ``at_work``, ``died``, ``stopped`` or ``ended``."""
    if status.run:
        return "at_work" if status.run.alive else "died"
    return "stopped" if status.waiting or status.begun else "ended"


def _failures(status: "Status", out: Path) -> list[str]:
    return [
        f"{slide.slide_id}: {slide.reason}, {slide.attempts} x: {slide.message} "
        f"({out / slide.report})"
        for slide in status.failed
    ]


def _print_status(printer: Printer, status: "Status", out: Path) -> None:
    printer.result(_state(status))
    if status.tiles_per_s:
        printer.result(f"{status.tiles_per_s:.3g} tiles/s over the last minutes")
    if status.end:
        printer.result(f"expected end: {status.end.astimezone():%Y-%m-%d %H:%M}")
    printer.result(
        [
            f"  {shortened(s.slide_id, _ID_CHARS)}: {s.blocks_done} of {s.blocks} blocks"
            for s in status.begun[:_MAX_BEGUN]
        ]
    )
    if (more := len(status.begun) - _MAX_BEGUN) > 0:
        printer.result(f"  and {more} more")
    reasons = grouped((slide.reason, slide.slide_id) for slide in status.failed)
    printer.result(group_lines("failed", reasons, printer.width), important=True)
    if status.failed:
        printer.result(f"why each failed: noctile status {out} --failed", important=True)
    counts = f"{status.done} done, {len(status.failed)} failed, {len(status.begun)} begun"
    printer.result(
        f"{status.submitted} slides: {counts}, {status.waiting} waiting"
        f"{review_counts(status.reviews)}",
        important=bool(status.failed),
    )
    if status.audit:
        printer.result(audit_line(status.audit), important=bool(status.audit.fault))


def _state(status: "Status") -> str:
    """Describe the state of the run: at work, died, ended or stopped, with the next step."""
    if run := status.run:
        heartbeat = f"last heartbeat {run.silent_s:.0f} s ago"
        if run.alive:
            return f"at work: {run.holder}; {heartbeat}"
        return f"died: {run.holder}; {heartbeat}; the same command continues"
    if state_of(status) == "stopped":
        return "stopped; the same command continues"
    again = "; --retry-failed tries failed slides again" if status.failed else ""
    return f"ended{again}"
