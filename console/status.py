"""``noctile status``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from noctile.console.display import shortened
from noctile.console.options import FOLDER

if TYPE_CHECKING:
    from noctile.workflows.commands.status import Status


@click.command("status")
@click.argument("out", type=FOLDER)
@click.option("--failed", is_flag=True, help="List only failed slides, with reasons and reports.")
def command(out: Path, failed: bool) -> None:
    """Show the progress of the run in OUT.

    During or after a run: slides that are done, failed (with reasons), begun and waiting, and the
    expected end.
    """
    from noctile.workflows.commands.status import read_status

    status = read_status(out)
    for line in _failures(status, out) if failed else _lines(status, out):
        click.echo(line)


def _failures(status: "Status", out: Path) -> list[str]:
    return [
        f"{slide.slide_id}: {slide.reason}, {slide.attempts} x: {slide.message} "
        f"({out / slide.report})"
        for slide in status.failed
    ]


def _lines(status: "Status", out: Path) -> list[str]:
    lines = [_state(status)]
    counts = f"{status.done} done, {len(status.failed)} failed, {len(status.begun)} begun"
    lines.append(f"{status.submitted} slides: {counts}, {status.waiting} waiting")
    if status.tiles_per_s:
        lines.append(f"{status.tiles_per_s:.3g} tiles/s over the last minutes")
    if status.end:
        lines.append(f"expected end: {status.end.astimezone():%Y-%m-%d %H:%M}")
    lines += [f"  {b.slide_id}: {b.blocks_done} of {b.blocks} blocks" for b in status.begun]
    for reason, n in Counter(slide.reason for slide in status.failed).most_common():
        names = ", ".join(slide.slide_id for slide in status.failed if slide.reason == reason)
        lines.append(f"  {reason}: {n} ({shortened(names)})")
    if status.failed:
        lines.append(f"reasons in full: noctile status {out} --failed")
    return lines


def _state(status: "Status") -> str:
    """Describe the state of the run: at work, died, ended or stopped, with the next step."""
    if run := status.run:
        heartbeat = f"last heartbeat {run.silent_s:.0f} s ago"
        if run.alive:
            return f"at work: {run.holder}; {heartbeat}"
        return f"died: {run.holder}; {heartbeat}; the same command continues"
    if status.waiting or status.begun:
        return "stopped; the same command continues"
    again = "; --retry-failed tries failed slides again" if status.failed else ""
    return f"ended{again}"
