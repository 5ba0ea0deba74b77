"""Options of more than one command, and the check of a whole call."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from noctile.console.printer import Printer
from noctile.pipeline.errors import UsageError
from noctile.pipeline.export.formats import FORMATS

if TYPE_CHECKING:
    from noctile.pipeline.slides.discover import Found
    from noctile.workflows.settings import RunSettings

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
DATA = click.Path(path_type=Path, file_okay=False, exists=True)

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


class Words(click.types.StringParamType):
    """Text that the shell can complete. The settings check it, together with all others.

    Args:
        words: words that are offered.
        metavar: name of the value in the help text; None lists the words.
    """

    name = "text"

    def __init__(self, *words: str, metavar: str | None = None) -> None:
        self._words = words
        self._metavar = metavar or f"[{'|'.join(words)}]"

    def get_metavar(self, *_: object, **__: object) -> str:
        """Return the name of the value in the help text."""
        return self._metavar

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that begin with the typed text."""
        del ctx, param
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


def complete_model(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return installed models that begin with the typed text, and let the shell add folders."""
    del ctx, param
    from noctile.pipeline.models.folder import installed_models

    names = [name for name in installed_models() if name.startswith(incomplete)]
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, names)]


RUN: tuple[Decorator, ...] = (
    click.argument("slides", nargs=-1),
    click.option("--out", type=FILE, help="Folder for the results (required)."),
    click.option(
        "--model",
        shell_complete=complete_model,
        help="Installed model or model folder (default: tumor).",
    ),
    click.option(
        "--manifest", type=FILE, help="CSV or .xlsx with slide_id, path, patient_id, mpp."
    ),
    click.option(
        "--mpp",
        metavar="UM",
        help="Pixel size of level 0 (um) where the manifest gives none.",
    ),
    click.option("--config", type=FILE, help="Settings as TOML; options override it."),
    click.option(
        "--engine",
        type=Words("dask", "serial"),
        help="dask (default): processes; serial: a plain loop.",
    ),
    click.option(
        "--workers",
        metavar="N",
        help="Worker processes (default: by cores and memory, at most 16 per GPU).",
    ),
    click.option(
        "--device",
        type=Words("auto", "cpu", "cuda", metavar="NAME"),
        help="auto (default), cpu, cuda or cuda:N.",
    ),
    click.option(
        "--backend",
        type=Words("auto", "torch", "openvino"),
        help="auto (default), torch, or openvino (CPU only).",
    ),
    click.option(
        "--scheduler", help="Address of a running Dask scheduler, e.g. tcp://10.0.0.1:8786."
    ),
    click.option(
        "--until", help="Stop at this time: 07:00, or a date with time such as 2026-11-24T07:00."
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        default=None,
        help="Try slides again that failed in an earlier run.",
    ),
    click.option(
        "--redo",
        is_flag=True,
        default=None,
        help="Replace finished results that were made with another model or other settings.",
    ),
    click.option(
        "--export",
        type=Words(*FORMATS),
        help="Also export each slide that is done: formats, separated by commas.",
    ),
    click.option(
        "--check-content",
        type=Words("sample", "full"),
        help="Find changed slides by size and a sample of the file (default), or by all of it.",
    ),
    click.option(
        "--slide-timeout",
        "slide_timeout_s",
        help="Most time that the steps of a slide may take, e.g. 30m; off (default: 6h).",
    ),
    click.option(
        "--max-memory",
        "max_memory_bytes",
        help="Most memory of a worker, e.g. 4G (default: its share of the machine's).",
    ),
    click.option(
        "--min-free-disk",
        "min_free_disk_bytes",
        help="Stop when less disk is free, e.g. 20G (default: 2G).",
    ),
)
"""Arguments and options of ``run`` and ``plan``."""


VIEWER: tuple[Decorator, ...] = (
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=0,
        show_default="any free one",
        help="Port on which the viewer listens.",
    ),
    click.option("--no-browser", is_flag=True, help="Print the address, and open no browser."),
)
"""Options of commands that show a page in the browser."""


def viewer_options(function: Function) -> Function:
    """Add the options of `VIEWER` to a command."""
    for decorate in reversed(VIEWER):
        function = decorate(function)
    return function


def show_page(printer: Printer, shown: str, url: str, end: str, *, no_browser: bool) -> None:
    """Print the address of a page, and open it in the browser.

    Args:
        printer: prints the lines.
        shown: line before the address: what is shown there.
        url: address of the page.
        end: line after the address: how to end.
        no_browser: True to open no browser.
    """
    import webbrowser

    printer.result(shown, important=True)
    printer.result(url, important=True)
    printer.result(end)
    if not no_browser:
        Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def run_options(function: Function) -> Function:
    """Add the arguments and options of `RUN` to a command."""
    for decorate in reversed(RUN):
        function = decorate(function)
    return function


def printing(*, as_json: bool = False) -> Decorator:
    """Add ``-q``, ``-v`` and ``--log-file`` to a command, which gets its `Printer` as ``printer``.

    Args:
        as_json: True also adds ``--json``.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def with_printer(
            *args: Any, quiet: bool, verbose: bool, log_file: Path | None, **options: Any
        ) -> Any:
            json = options.pop("as_json", False)
            with Printer(quiet=quiet, verbose=verbose, as_json=json, log_file=log_file) as printer:
                return function(*args, printer=printer, **options)

        decorated: Function = with_printer
        for option in reversed((*PRINTING, *(JSON if as_json else ()))):
            decorated = option(decorated)
        return decorated

    return decorate


PRINTING: tuple[Decorator, ...] = (
    click.option("-q", "--quiet", is_flag=True, help="Print warnings and failures only."),
    click.option("-v", "--verbose", is_flag=True, help="Print details, and every slide."),
    click.option(
        "--log-file", type=FILE, help="Append every line to this file, with date and time."
    ),
)
"""Options of commands that print progress."""

JSON: tuple[Decorator, ...] = (
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the result as JSON; progress goes to standard error.",
    ),
)


class _Mistakes:
    """Mistakes of a call, collected so that they are reported together."""

    def __init__(self) -> None:
        self._found: list[str] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the error of a check, and go on with the next one."""
        from noctile.workflows.settings import SettingsError

        try:
            yield
        except SettingsError as error:
            self._found += error.faults
        except UsageError as error:
            self._found.append(str(error))

    def report(self) -> None:
        """Raise one error for all mistakes.

        Raises:
            UsageError: if there is a mistake.
        """
        if len(self._found) > 1:
            lines = [f"{len(self._found)} mistakes in this call:", *self._found]
            raise UsageError("\n  ".join(lines))
        if self._found:
            raise UsageError(self._found[0])


def read_call(
    slides: tuple[str, ...],
    out: Path | None,
    manifest: Path | None,
    config: Path | None,
    options: Mapping[str, Any],
    printer: Printer,
) -> "tuple[RunSettings, Found, Path]":
    """Settings, slides and folder of results of a call with the options of `RUN`.

    Raises:
        UsageError: if a setting, the model, the manifest or the folder of results cannot be used,
            or there are no slides; the message names all mistakes.
    """
    from noctile.pipeline.models.folder import find_model, read_card
    from noctile.pipeline.slides.discover import Found, find_slides
    from noctile.workflows.results.guard import check_manifest
    from noctile.workflows.settings import RunSettings, load_settings

    mistakes, found, settings = _Mistakes(), Found([], []), RunSettings()
    with mistakes.collected():
        settings = load_settings(config, _names(options), **options)
    with mistakes.collected():
        read_card(find_model(options["model"] or settings.model))
    with mistakes.collected():
        found = find_slides(slides, manifest, settings.mpp, warn=printer.warn)
    with mistakes.collected():
        check_out(out)
    with mistakes.collected():
        check_manifest(manifest, out or Path())
    mistakes.report()
    return settings, found, out or Path()


def check_out(out: Path | None) -> None:
    """Check that a folder of results can be used, before anything is written.

    Raises:
        UsageError: if it is missing, a file, not writable, or holds files that no run has written.
    """
    from noctile.workflows.results.guard import check_free
    from noctile.workflows.results.layout import ResultsFolder

    if out is None:
        raise UsageError("--out is missing: name the folder for the results, such as --out results")
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file; name a folder")
        if out.exists() and not os.access(out, os.W_OK | os.X_OK):
            raise UsageError(f"--out {out} cannot be written: you have no permission")
        check_free(ResultsFolder(out))
    except OSError as error:
        raise UsageError(f"--out {out} cannot be read: {error.strerror or error}") from error


def _names(options: Mapping[str, Any]) -> dict[str, str]:
    """Option as the user typed it, by the name of each setting that an option has set."""
    command = click.get_current_context().command
    return {
        param.name: max(param.opts, key=len)
        for param in command.params
        if param.name and options.get(param.name) is not None
    }
