"""A run that a program starts: the arguments of ``noctile run`` as Python values."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.processes.main_module import without_main_module
from noctile.workflows.results.guard import check_manifest
from noctile.workflows.run.progress import Observer, RunResult
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import load_settings

PathLike = str | os.PathLike[str]


def run(
    slides: PathLike | Iterable[PathLike] = (),
    *,
    out: PathLike,
    model: PathLike = "tumor",
    manifest: PathLike | None = None,
    observe: Observer | None = None,
    **settings: Any,
) -> RunResult:
    """Segment slides into a folder of results, as ``noctile run`` does.

    The same call continues a run that was stopped or killed. Ctrl-C, or the interruption of a
    notebook's kernel, stops it: slides that are done stay done, and the call returns. Lines that
    the command would print are in ``run.log`` of the folder.

    A script needs no ``if __name__ == "__main__":``, because workers do not import it.

    Args:
        slides: files, folders and globs, one or several; none if the manifest names the slides.
        out: folder of results; it is created if it does not exist.
        model: name of an installed model, or path of a model folder.
        manifest: CSV file or Excel workbook with slide_id, path, patient_id, group, mpp and any
            other columns.
        observe: called after each outcome with the progress and a line of text, which may be empty.
        **settings: settings by name, with the values that a TOML file of ``--config`` has, such as
            ``workers=4`` or ``until="07:00"``.

    Returns:
        one row for each slide of the call, the reason of a stop, and the exit code of the command.

    Raises:
        UsageError: if a setting, the model, the manifest or the folder of results cannot be used,
            there are no slides, or finished results would be replaced.
    """
    checked = load_settings(None, model=os.fspath(model), **settings)
    rows = Path(manifest) if manifest is not None else None
    arguments = [slides] if isinstance(slides, str | os.PathLike) else list(slides)
    found = find_slides([os.fspath(slide) for slide in arguments], rows, checked.mpp)
    check_manifest(rows, Path(out))
    with without_main_module():
        return run_slides(found.slides, checked, Path(out), observe or _ignore, found.left_out)


def _ignore(*_: object) -> None:
    """Observer that does nothing."""
