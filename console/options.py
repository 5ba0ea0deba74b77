"""Options of more than one command."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from noctile.console.display import warn

if TYPE_CHECKING:
    from noctile.pipeline.slides.discover import SlideEntry
    from noctile.workflows.settings import RunSettings

FILE = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)
DATA = click.Path(path_type=Path, file_okay=False, exists=True)

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]

RUN: tuple[Decorator, ...] = (
    click.argument("slides", nargs=-1),
    click.option("--out", required=True, type=FOLDER, help="Folder for the results."),
    click.option("--model", help="Installed model or model folder (default: tumor)."),
    click.option("--manifest", type=FILE, help="CSV with slide_id, path, patient_id, mpp, ..."),
    click.option(
        "--mpp", type=float, help="Pixel size of level 0 (um) where the manifest gives none."
    ),
    click.option("--config", type=FILE, help="Settings as TOML; options override it."),
    click.option(
        "--engine",
        type=click.Choice(["dask", "serial"]),
        help="dask (default): processes; serial: a plain loop.",
    ),
    click.option(
        "--workers",
        type=int,
        help="Worker processes (default: by cores and memory, at most 16 per GPU).",
    ),
    click.option("--device", help="auto (default), cpu, cuda or cuda:N."),
    click.option("--backend", help="auto (default), torch, or openvino (CPU only)."),
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
        help="Make finished results again that another model or other settings made.",
    ),
    click.option(
        "--check-content",
        type=click.Choice(["sample", "full"]),
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


def run_options(function: Function) -> Function:
    """Add the arguments and options of `RUN` to a command."""
    for decorate in reversed(RUN):
        function = decorate(function)
    return function


def read_call(
    slides: tuple[str, ...],
    out: Path,
    manifest: Path | None,
    config: Path | None,
    options: Mapping[str, Any],
) -> "tuple[RunSettings, list[SlideEntry]]":
    """Settings and slides of a call with the options of `RUN`.

    Raises:
        UsageError: if a setting or the manifest cannot be used, or there are no slides.
    """
    from noctile.pipeline.slides.discover import find_slides
    from noctile.workflows.results.guard import check_manifest
    from noctile.workflows.settings import load_settings

    settings = load_settings(config, **options)
    entries = find_slides(slides, manifest, settings.mpp, warn=warn)
    check_manifest(manifest, out)
    return settings, entries
