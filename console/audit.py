"""``noctile audit``."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.options import FILE, FOLDER, printing, show_page, viewer_options
from noctile.console.printer import Printer
from noctile.pipeline.errors import UsageError

if TYPE_CHECKING:
    from noctile.workflows.commands.audit_status import AuditProgress, WantedArea
    from noctile.workflows.results.audits import Audits


class Percent(click.types.StringParamType):
    """Percentage from 0.01 up, with or without the sign, as a fraction."""

    name = "percent"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the fraction."""
        try:
            number = float(str(value).removesuffix("%"))
        except ValueError:
            number = math.nan
        if not 0.01 <= number < math.inf:
            self.fail(f"{value!r} is no percentage from 0.01 up, such as 5%", param, ctx)
        return number / 100


@click.command("audit")
@click.argument("results", type=FOLDER)
@click.option("--points", type=click.IntRange(1), help="Number of points in all (default: 300).")
@click.option("--slides", type=click.IntRange(1), help="Number of slides to choose (default: all).")
@click.option("--by", metavar="COLUMN", help="Column of the manifest that names the groups.")
@click.option("--seed", type=click.IntRange(0), help="Seed of all random choices (default: 0).")
@click.option("--reader", metavar="NAME", help="Name of the reader (default: your user name).")
@viewer_options
@click.option("--status", is_flag=True, help="Show answers and corrected areas, and no points.")
@click.option(
    "--half-width",
    type=Percent(),
    help="With --status: wanted half of each interval, in percent of the area (default: half of "
    "the present one).",
)
@click.option("--export", type=FOLDER, help="Write the points as GeoJSON for QuPath, and stop.")
@click.option("--answers", type=FILE, multiple=True, help="Read answers from GeoJSON, and stop.")
@printing(as_json=True)
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
    **options: Any,
) -> None:
    """Tell the class of points, from which `noctile cohort --audit` corrects the areas.

    The first call draws the points at random, in each predicted class of each group. They are shown
    one by one in the browser, without the prediction. Answers are saved at once, and the same
    command continues. Ctrl-C ends it. A larger number of --points adds points.

    With --export and --answers the points are answered in QuPath. --export with --reader writes
    that reader's answers, for `noctile train`.
    """
    from noctile.workflows.commands.audit import AuditRequest, open_audit
    from noctile.workflows.commands.audit_exchange import export_points, import_answers
    from noctile.workflows.commands.audit_status import audit_progress
    from noctile.workflows.results.audits import Audits
    from noctile.workflows.results.layout import ResultsFolder
    from noctile.workflows.viewer.audit_server import serve_audit
    from noctile.workflows.viewer.server import reviewer_name

    half_width: float | None = options.pop("half_width")
    if status:
        _print_status(results, Audits(ResultsFolder(results)), half_width, printer)
        return
    if printer.as_json or half_width is not None:
        raise UsageError("--json and --half-width belong to --status; add it, or leave them out")
    name = reviewer_name(reader, "--reader")
    audits = open_audit(results, AuditRequest(**options))
    if answers:
        import_answers(ResultsFolder(results), audits, answers, name)
    if export:
        export_points(ResultsFolder(results), audits, export, reader)
    printer.result(_lines(results, audit_progress(audits)))
    _warn_of_few_slides(audits, printer)
    if export or answers:
        return

    def show(url: str) -> None:
        shown = f"points for {name} are shown at"
        end = "Ctrl-C ends the audit; the same command continues it"
        show_page(printer, shown, url, end, no_browser=no_browser)

    serve_audit(results, audits, port, name, show)


def _print_status(
    results: Path, audits: "Audits", half_width: float | None, printer: Printer
) -> None:
    from noctile.console.documents import audit_document
    from noctile.workflows.commands.audit_status import audit_areas, audit_progress

    progress, areas = audit_progress(audits), audit_areas(audits, half_width)
    printer.result(_lines(results, progress))
    printer.result(list(_area_lines(areas, progress)))
    _warn_of_few_slides(audits, printer)
    printer.document(audit_document(progress, areas, results))


def _warn_of_few_slides(audits: "Audits", printer: Printer) -> None:
    from noctile.workflows.commands.audit_status import LEAST_SLIDES, few_slides

    design = audits.design()
    if (number := few_slides(design)) is not None:
        where = "slides of a group" if design.by else "slides"
        printer.warn(
            f"points lie on {number} chosen {where}. With fewer than {LEAST_SLIDES}, intervals of "
            "accuracies can be too short where errors differ from slide to slide; those of areas "
            "hold"
        )


def _area_lines(areas: "Sequence[WantedArea]", progress: "AuditProgress") -> Iterator[str]:
    """One line for each class: its corrected area, and the points that the wanted width takes."""
    from noctile.pipeline.patients.audited import MIN_POINTS
    from noctile.pipeline.patients.flow import counted

    if not areas:
        yield f"no areas yet: they take {MIN_POINTS} points with a class"
        return
    counts = areas[0].found.areas
    slides, points = counted(counts.slides, "slide"), counted(counts.points, "point")
    yield f"areas of {slides}, corrected by {points} with a class:"
    for row in areas:
        area, half_width = row.found.area.area_mm2, 100 * row.found.half_width
        line = f"  {row.found.name}: {area.value:.3g} mm² ({area.low:.3g} to {area.high:.3g})"
        if area.value > 0:
            line += f", ± {half_width:.3g} %; {_further(row, progress.points)}"
        yield line


def _further(row: "WantedArea", drawn: int) -> str:
    """Points that the wanted width of an area takes."""
    wanted = f"± {100 * row.half_width:.3g} %"
    if row.further == 0:
        return f"{wanted} is reached"
    if row.further is None:
        return f"no number of points on these slides gives {wanted}"
    takes = f"{wanted} takes about {row.further} further points with a class"
    if row.total is None:
        return f"{takes}, and so many cannot be drawn"
    return takes + (", which are drawn" if row.total <= drawn else f": --points {row.total}")


def _lines(results: Path, progress: "AuditProgress") -> list[str]:
    from noctile.workflows.commands.audit import listed

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
            "not used, because the slides were done again or have gone since the points were "
            f"drawn: {listed(progress.stale)}"
        )
    return lines
