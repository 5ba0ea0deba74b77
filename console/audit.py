"""``noctile audit``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.options import FILE, FOLDER, printing, show_page, viewer_options
from noctile.console.printer import Printer

if TYPE_CHECKING:
    from noctile.workflows.commands.audit import AuditProgress


@click.command("audit")
@click.argument("results", type=FOLDER)
@click.option("--points", type=click.IntRange(1), help="Number of points to draw (default: 300).")
@click.option("--by", metavar="COLUMN", help="Column of the manifest that names the groups.")
@click.option("--seed", type=click.IntRange(0), help="Seed of all random choices (default: 0).")
@click.option("--reader", metavar="NAME", help="Name of the reader (default: your user name).")
@viewer_options
@click.option("--status", is_flag=True, help="Show how far the readers are, and no points.")
@click.option("--export", type=FOLDER, help="Write the points as GeoJSON for QuPath, and stop.")
@click.option("--answers", type=FILE, multiple=True, help="Read answers from GeoJSON, and stop.")
@printing()
def command(
    results: Path,
    reader: str | None,
    port: int,
    *,
    no_browser: bool,
    status: bool,
    export: Path | None,
    answers: tuple[Path, ...],
    printer: Printer,
    **drawing: Any,
) -> None:
    """Tell the class of points, from which `noctile cohort --audit` corrects the areas.

    The first call draws the points at random, in each predicted class of each group. They are shown
    one by one in the browser, without the prediction. Answers are saved at once, and the same
    command continues. Ctrl-C ends it.

    With --export and --answers the points are answered in QuPath. --export with --reader writes
    that reader's answers, for `noctile train`.
    """
    from noctile.workflows.commands.audit import AuditRequest, audit_progress, open_audit
    from noctile.workflows.commands.audit_exchange import export_points, import_answers
    from noctile.workflows.results.audits import Audits
    from noctile.workflows.results.layout import ResultsFolder
    from noctile.workflows.viewer.audit_server import serve_audit
    from noctile.workflows.viewer.server import reviewer_name

    if status:
        printer.result(_lines(results, audit_progress(Audits(ResultsFolder(results)))))
        return
    name = reviewer_name(reader, "--reader")
    audits = open_audit(results, AuditRequest(**drawing))
    if answers:
        import_answers(ResultsFolder(results), audits, answers, name)
    if export:
        export_points(ResultsFolder(results), audits, export, reader)
    printer.result(_lines(results, audit_progress(audits)))
    if export or answers:
        return

    def show(url: str) -> None:
        shown = f"points for {name} are shown at"
        end = "Ctrl-C ends the audit; the same command continues it"
        show_page(printer, shown, url, end, no_browser=no_browser)

    serve_audit(results, audits, port, name, show)


def _lines(results: Path, progress: "AuditProgress") -> list[str]:
    left_out = ", ".join(f"{count} {reason}" for reason, count in progress.left_out.items())
    lines = [
        f"{results / 'audit'}: {progress.points} points on {progress.slides} of {progress.frame} "
        f"slides{f'; left out: {left_out}' if left_out else ''}"
    ]
    lines += [f"  {name}: {n} of {progress.points}" for name, n in progress.readers.items()]
    for (first, second), found in progress.agreement.items():
        k = found.kappa
        shown = f"kappa {k.value:.2f} ({k.low:.2f} to {k.high:.2f}), " if k.value == k.value else ""
        same = f"{100 * found.agreement:.0f} % of {found.points} points alike"
        lines.append(f"  {first} and {second}: {shown}{same}")
    if progress.stale:
        lines.append(
            "not used, because the slides were done again after the points were drawn: "
            f"{', '.join(progress.stale[:8])}{', ...' if len(progress.stale) > 8 else ''}"
        )
    return lines
