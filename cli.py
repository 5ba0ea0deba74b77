"""Words on the command line -> one call -> a table. Heavy imports are late: ``noctile --help``
answers at once.
"""

import atexit
import gc
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.table import Column

    from noctile.workflows.commands.plan import PlanResult
    from noctile.workflows.commands.status import Status
    from noctile.workflows.commands.verify import Verdict, Verification
    from noctile.workflows.run.run import Progress, RunResult

_NAMES_CHARS = 200
"""So much of a list of names is shown."""

_OWN_PROCESS = "own process"
"""What commands know their process by if nothing else is in it."""

EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class _Group(click.Group):
    """Errors that Noctile names, and Ctrl-C, end in one readable line and an exit code, never in a
    traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
        from noctile.pipeline.errors import NoctileError

        try:
            return super().invoke(ctx)
        except NoctileError as error:
            click.echo(f"noctile: {error}", err=True)
            ctx.exit(EXIT_USAGE)
        except (
            KeyboardInterrupt
        ):  # a night that has begun answers it itself (`noctile.workflows.run.stop`)
            click.echo("noctile: interrupted", err=True)
            if ctx.obj == _OWN_PROCESS:
                from noctile.workflows.processes.control import leave

                leave(EXIT_INTERRUPTED)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="noctile")
def main() -> None:
    """Segment archives of whole-slide images overnight: OME-Zarr masks, tumor areas in mm2, one
    table.
    """


def command() -> None:
    """`main` in a process of its own, which ends with it."""
    atexit.register(
        gc.freeze
    )  # or Python ends by looking for garbage among all that it has imported: 0.4 s
    main(obj=_OWN_PROCESS)


@main.command()
@click.argument("slides", nargs=-1)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the results.",
)
@click.option("--model", help="Installed model or model folder (default: tumor).")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="CSV with slide_id, path, patient_id, mpp, ...",
)
@click.option(
    "--mpp", type=float, help="Pixel size of level 0 (um) for slides that the manifest gives none."
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings as TOML; options override it."
)
@click.option(
    "--engine",
    type=click.Choice(["dask", "serial"]),
    help="dask (default): processes; serial: a plain loop.",
)
@click.option(
    "--workers",
    type=int,
    help="Worker processes (default: by cores and memory, at most 16 per GPU).",
)
@click.option("--device", help="auto (default), cpu, cuda or cuda:N.")
@click.option("--backend", help="auto (default), torch or openvino (CPU, extra noctile[cpu]).")
@click.option("--scheduler", help="Address of a running Dask scheduler, e.g. tcp://10.0.0.1:8786.")
@click.option(
    "--until", help="Stop at this time: 07:00, or a date with time such as 2026-11-24T07:00."
)
@click.option(
    "--retry-failed",
    is_flag=True,
    default=None,
    help="Try slides again that failed in an earlier run.",
)
@click.option(
    "--slide-timeout",
    "slide_timeout_s",
    help="Time a slide's steps may take, e.g. 30m; off (default: 6h).",
)
@click.option(
    "--max-memory",
    "max_memory_bytes",
    help="Memory of a worker, e.g. 4G (default: its share of all).",
)
@click.option(
    "--min-free-disk", "min_free_disk_bytes", help="Stop when less is free, e.g. 20G (default: 2G)."
)
def run(
    slides: tuple[str, ...], out: Path, manifest: Path | None, config: Path | None, **options: Any
) -> None:
    """Segment SLIDES (files, folders, globs) into --out. The same command continues what was
    stopped, or died.
    """
    from rich.console import Console

    from noctile.pipeline.slides.discover import find_slides
    from noctile.workflows.run.fault_origin import check_manifest
    from noctile.workflows.run.run import run_slides
    from noctile.workflows.settings import load_settings

    settings = load_settings(config, **options)

    entries = find_slides(slides, manifest, settings.mpp, warn=_print_warning)
    check_manifest(manifest, out)
    console = Console(file=cast("TextIO", _Screen(sys.stdout)))
    with _Display(console, len(entries)) as display:
        result = run_slides(entries, settings, out, display)
    _print_result(console, result, out)
    sys.exit(result.exit_code)


@main.command(params=list(run.params))
def plan(
    slides: tuple[str, ...], out: Path, manifest: Path | None, config: Path | None, **options: Any
) -> None:
    """Look at SLIDES before the night: what will fail and why, tissue, predictions, hours, disk.
    Predicts nothing.

    Takes what `noctile run` takes, which then goes on from here.
    """
    from rich.console import Console

    from noctile.pipeline.slides.discover import find_slides
    from noctile.workflows.commands.plan import plan_slides
    from noctile.workflows.run.fault_origin import check_manifest
    from noctile.workflows.settings import load_settings

    settings = load_settings(config, **options)

    entries = find_slides(slides, manifest, settings.mpp, warn=_print_warning)
    check_manifest(manifest, out)
    console = Console(file=cast("TextIO", _Screen(sys.stdout)))
    with _Display(console, len(entries)) as display:
        night = plan_slides(entries, settings, out, display)
    _print_plan(console, night, out)
    sys.exit(night.exit_code)


@main.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--failed", is_flag=True, help="Only the slides that failed, with the files that say why."
)
def status(out: Path, failed: bool) -> None:
    """Say how far the run in OUT is, while it goes on or after: done, failed and why, under way,
    expected end.
    """
    from noctile.workflows.commands.status import read_status

    _print_status(read_status(out), out, failed)


@main.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--slides",
    "slide_ids",
    multiple=True,
    metavar="ID",
    help="Only this slide; may be given several times.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes (default: one per core).")
def verify(out: Path, slide_ids: tuple[str, ...], workers: int | None) -> None:
    """Read everything in OUT again: complete, intact, and masks, figures and tables of one mind.
    Changes nothing.
    """
    from noctile.workflows.commands.status import current_run
    from noctile.workflows.commands.verify import verify as verify_results

    if (run := current_run(out)) and run.alive:
        click.echo(f"a run is at work ({run.holder}): what it is changing may look wrong")
    result = verify_results(out, slide_ids, workers, _print_verdict)
    _print_verification(result)
    sys.exit(result.exit_code)


@main.command()
@click.argument("slide", type=click.Path(path_type=Path))
@click.option(
    "--mpp", type=float, help="Pixel size of level 0 (um), where the file does not say it."
)
@click.option("--model", help="Model whose tiles are counted (default: tumor).")
@click.option(
    "--thumbnail",
    type=click.Path(path_type=Path),
    help="Write the slide with its tissue outlined (JPEG or PNG).",
)
def inspect(slide: Path, mpp: float | None, model: str | None, thumbnail: Path | None) -> None:
    """Say what a slide is: vendor, levels, pixel size and its source, compression, tissue, tiles."""
    from rich.console import Console

    from noctile.workflows.commands.inspect import inspect_slide
    from noctile.workflows.settings import load_settings

    facts = inspect_slide(slide, mpp, load_settings(None, model=model), thumbnail)
    _print_facts(Console(), facts)


@main.command()
@click.argument(
    "data", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False, exists=True)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings as TOML; options override it."
)
@click.option(
    "--classes", help="bcss21, bcss5 (default), tumor, or a TOML file with classes of your own."
)
@click.option("--encoder", help="Any encoder of segmentation-models-pytorch (default: resnet34).")
@click.option("--encoder-weights", help="imagenet (default), none, or a file.")
@click.option(
    "--mpp",
    type=float,
    help="Pixel size of the images (um), where neither they nor --config say it.",
)
@click.option("--epochs", type=int, help="At most so many (default: 50).")
@click.option("--device", help="auto (default: all GPUs), cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Go on with the training that was stopped in --out.")
def train(
    data: tuple[Path, ...],
    out: Path,
    config: Path | None,
    mpp: float | None,
    resume: bool,
    **options: Any,
) -> None:
    """Train a model on DATA: folders of BCSS, its pre-tiled copies, images/ + masks/, or slides
    with GeoJSON.
    """
    from noctile.workflows.commands.train import load_train_settings
    from noctile.workflows.commands.train import train as train_model

    settings = load_train_settings(config, data, mpp, **options)
    try:
        result = train_model(settings, out, click.echo, resume=resume)
    except KeyboardInterrupt:
        click.echo(
            "interrupted: the same command with --resume goes on after the last whole epoch",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    click.echo(
        f"model in {result.folder}, weights of epoch {result.best_epoch}; curves in {result.folder}/curves.png"
    )


@main.command()
@click.argument("model")
@click.argument(
    "data", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False, exists=True)
)
@click.option(
    "--split",
    "side",
    type=click.Choice(["train", "val", "test", "all"]),
    default="test",
    show_default=True,
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the report.",
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="The training's settings, for its [[data]]."
)
@click.option(
    "--mpp",
    type=float,
    help="Pixel size of the images (um), where neither they nor --config say it.",
)
@click.option("--classes", help="Class scheme of the data, where the model's folder holds none.")
@click.option("--device", help="auto (default), cpu, cuda or cuda:N.")
def evaluate(
    model: str,
    data: tuple[Path, ...],
    side: Literal["train", "val", "test", "all"],
    out: Path,
    config: Path | None,
    mpp: float | None,
    classes: str | None,
    device: str | None,
) -> None:
    """Measure MODEL on a side of DATA: figures with intervals, confusion, calibration, gallery,
    report.html.
    """
    from noctile.workflows.commands.evaluate import evaluate as evaluate_model
    from noctile.workflows.commands.train import load_train_settings

    sources = load_train_settings(config, data, mpp).data
    evaluate_model(model, sources, out, side, classes, device or "auto", click.echo)
    click.echo(f"report in {out / 'report.html'}")


@main.command()
@click.argument("slides", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the masks.",
)
@click.option("--mpp", type=float, help="Pixel size (um), where the files do not say it.")
def annotate(slides: tuple[str, ...], out: Path, mpp: float | None) -> None:
    """Mark tumor candidates on SLIDES or images by their stains alone: a start where there is no
    annotation.
    """
    from noctile.workflows.commands.annotate import annotate as annotate_slides

    rows = annotate_slides(slides, out, mpp, click.echo)
    sys.exit(EXIT_SOME_FAILED if any(row.status == "failed" for row in rows) else 0)


@main.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the installed models; ``models show NAME`` prints a model's card."""
    if ctx.invoked_subcommand:
        return
    from rich.console import Console
    from rich.table import Table

    from noctile.pipeline.models.load import installed_models, read_card

    table = Table("model", "classes", "um/px", "licence", "description")
    for name, folder in installed_models().items():
        card = read_card(folder)
        table.add_row(name, str(len(card.classes)), f"{card.mpp:g}", card.licence, card.description)
    Console().print(table)


@models.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the card of model NAME (installed, or a folder) as JSON."""
    from noctile.pipeline.models.load import find_model, read_card

    click.echo(read_card(find_model(name)).model_dump_json(indent=2))


def _print_warning(line: str) -> None:
    click.echo(f"noctile: warning: {line}", err=True)


class _Screen:
    """Standard output; when it goes away (a closed terminal, ``| head``), what is written goes
    nowhere.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with self._lasting():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lasting():
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    @contextmanager
    def _lasting(self) -> "Iterator[None]":
        try:
            yield
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())


class _Display:
    """What a run shows while it goes on: one live line on a terminal, a line for each event
    elsewhere.
    """

    def __init__(self, console: "Console", slides: int) -> None:
        self._console, self._slides, self._start = console, slides, time.monotonic()
        self._status = console.status("starting") if console.is_terminal else None

    def __enter__(self) -> "Callable[[Progress, str], None]":
        if self._status:
            self._status.start()
        else:
            self._console.print(f"{self._slides} slides", highlight=False)
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def _show(self, progress: "Progress", say: str) -> None:
        if say:
            ended = progress.done + len(progress.failures)
            self._console.print(
                f"[{ended}/{progress.slides}] {say}", highlight=False, markup=False, soft_wrap=True
            )
        if self._status:
            self._status.update(self._line(progress))

    def _line(self, progress: "Progress") -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        speed = progress.predictions / seconds
        ended = progress.done + len(progress.failures)
        parts = [f"{ended} of {progress.slides} slides", f"{speed:.1f} tiles/s"]
        if progress.failures:
            parts.append(f"{len(progress.failures)} failed")
        if (
            progress.done and ended < progress.slides
        ):  # what fails, fails soon, and says nothing of the rest
            parts.append(
                f"about {_duration(seconds / progress.done * (progress.slides - ended))} left"
            )
        elif speed and progress.planned > progress.predictions:
            parts.append(
                f"about {_duration((progress.planned - progress.predictions) / speed)} left"
            )
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min"
        if hours
        else f"{minutes} min {rest:02d} s"
        if minutes
        else f"{rest} s"
    )


def _whole(header: str) -> "Column":
    """A column whose cells are wrapped where there is no room, and never cut: slides must be told
    apart.
    """
    from rich.table import Column

    return Column(header, overflow="fold")


def _print_result(console: "Console", result: "RunResult", out: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(_whole("slide"), "status", "tumor mm2", "tissue mm2", _whole("flags / reason"))
    for row in result.rows:
        s = row.summary
        figures = [f"{s[k]:.3f}" if k in s else "" for k in ("tumor_area_mm2", "tissue_area_mm2")]
        why = row.reason.partition(":")[0] or ", ".join(
            s.get("flags", ())
        )  # the whole message was printed above
        table.add_row(escape(row.slide_id), row.status, *figures, escape(why))
    counts = {status: result.count(status) for status in ("done", "failed", "skipped")}
    total = sum(r.summary.get("tumor_area_mm2", 0.0) for r in result.rows)
    console.print(
        f"results in {out}: slides.csv, slides.parquet, slides/<slide_id>/",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print(table)
    said = ", ".join(f"{n} {status}" for status, n in counts.items() if n or status == "done")
    console.print(
        f"{said}; tumor {total:.3f} mm2 in all; {result.pace}", highlight=False, soft_wrap=True
    )
    if result.stopped:
        left = f"{counts['done']} of {len(result.rows)} slides done, {counts['skipped']} left"
        console.print(
            f"stopped, {result.stopped}: {left}; the same command continues",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _print_plan(console: "Console", night: "PlanResult", out: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        _whole("slide"), "um/px", "from", "tissue mm2", "predictions", _whole("flags / reason")
    )
    for s in night.slides:
        mpp = f"{s.mpp[1]:.4g}" if s.mpp else ""
        figures = (
            [f"{s.tissue_area_mm2:.2f}", str(s.predictions)]
            if s.tissue_area_mm2 is not None
            else ["", ""]
        )
        same = f"same file as {s.same_file}" if s.same_file else f"same content as {s.same_content}"
        notes = [
            s.reason.partition(":")[0],
            *s.flags,
            same if s.same_file or s.same_content else "",
        ]
        notes.append("done already" if s.state == "done" else "")
        table.add_row(
            escape(s.slide_id), mpp, s.mpp_source, *figures, escape(", ".join(filter(None, notes)))
        )
    console.print(table)
    if night.stopped:
        stopped = f"stopped: {night.stopped}; the same command goes on"
        console.print(stopped, highlight=False, markup=False, soft_wrap=True)
    for line in night.totals():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"all of it: {out / 'plan.csv'}", highlight=False, markup=False, soft_wrap=True)


def _print_status(status: "Status", out: Path, only_failed: bool) -> None:
    for slide in status.failed if only_failed else ():
        click.echo(
            f"{slide.slide_id}: {slide.reason}, {slide.attempts} x: {slide.message} ({out / slide.report})"
        )
    if only_failed:
        return
    run = status.run
    if run and run.alive:
        click.echo(f"at work: {run.holder}; last sign of life {run.silent_s:.0f} s ago")
    elif run:
        click.echo(
            f"died: {run.holder}; last sign of life {run.silent_s:.0f} s ago; the same command goes on"
        )
    else:
        again = "; --retry-failed tries again what failed" if status.failed else ""
        over = not (status.waiting or status.begun)
        click.echo(f"ended{again}" if over else "nobody is at work; the same command goes on")
    counts = [f"{status.done} done", f"{len(status.failed)} failed", f"{len(status.begun)} begun"]
    click.echo(f"{status.submitted} slides: {', '.join(counts)}, {status.waiting} waiting")
    if status.tiles_per_s:
        click.echo(f"{status.tiles_per_s:.3g} tiles/s over the last minutes")
    if status.end:
        click.echo(f"will end about {status.end.astimezone():%Y-%m-%d %H:%M}")
    for begun in status.begun:
        click.echo(f"  {begun.slide_id}: {begun.blocks_done} of {begun.blocks} blocks")
    reasons = Counter(slide.reason for slide in status.failed)
    for reason, n in reasons.most_common():
        some = ", ".join(slide.slide_id for slide in status.failed if slide.reason == reason)
        click.echo(f"  {reason}: {n} ({_short(some)})")
    if status.failed:
        click.echo(f"why: noctile status {out} --failed")


def _short(text: str) -> str:
    return text if len(text) <= _NAMES_CHARS else f"{text[:_NAMES_CHARS].rpartition(',')[0]}, ..."


def _print_verdict(verdict: "Verdict") -> None:
    """One line for a slide that is wrong, however much is wrong with it."""
    if verdict.faults:
        first, more = verdict.faults[0], len(verdict.faults) - 1
        also = f" (and {more} more)" if more else ""
        click.echo(f"{verdict.slide_id}: {first.file} {first.what}{also}; {first.remedy}")


def _print_verification(result: "Verification") -> None:
    for fault in result.tables:
        click.echo(f"{fault.file} {fault.what}; {fault.remedy}")
    if result.unlisted:
        click.echo(
            f"{len(result.unlisted)} slides are done and not in the tables, which are those of the last call"
        )
    tables = f", {len(result.tables)} faults in the tables" if result.tables else ""
    click.echo(f"{len(result.slides)} slides read again: {len(result.wrong)} wrong{tables}")


def _print_facts(console: "Console", facts: dict[str, str]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name, value)
    console.print(table)


if __name__ == "__main__":
    command()
