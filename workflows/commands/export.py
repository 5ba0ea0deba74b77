"""Export of the results in a folder to files that other programs open, one file a slide."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from noctile.pipeline.columns import describe_columns
from noctile.pipeline.errors import SlideError, SlideNotDoneError, StoreError, UsageError
from noctile.pipeline.export.formats import FORMATS, WORKBOOK, check_format
from noctile.pipeline.export.names import file_stems
from noctile.pipeline.export.workbook import write_workbook
from noctile.pipeline.untrusted import printable
from noctile.pipeline.wrong_values import did_you_mean
from noctile.workflows.commands.opened import Results, open_results
from noctile.workflows.jobs.export_slide import ExportTask, export_slide
from noctile.workflows.processes.main_module import without_main_module
from noctile.workflows.resources import cores
from noctile.workflows.results.exports import ExportFolder
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.standing import read_standing

Observer = Callable[[str], None]
"""Function called with a line about each file."""


@dataclass(slots=True)
class ExportResult:
    """Result of ``noctile export``.

    Attributes:
        folders: folder of the files of each format, by the name of the format.
        written: files that were written.
        current: files that were there already, made from the same results with the same options.
        failed: message about each file that could not be written.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    current: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if every file is there now, else 1."""
        return 1 if self.failed else 0


def export_results(
    results: Path,
    formats: Sequence[str],
    slide_ids: Sequence[str] = (),
    out: Path | None = None,
    options: Mapping[str, Any] | None = None,
    observe: Observer = lambda _: None,
) -> ExportResult:
    """Export slides that are done; a slide that fails does not stop the others.

    A file that is there already, and not older than its result, is not made again. A run may be at
    work in the folder: slides that are done by then are exported.

    Args:
        results: folder of results.
        formats: names of formats; ``xlsx`` is one file with the table of the slides.
        slide_ids: ids of slides; empty for all slides that are done.
        out: folder of the files. With several formats each has its own folder in it. None for
            ``exports/<format>`` in the folder of results.
        options: value of each option that is not the default, by name.
        observe: called with a line about each file.

    Raises:
        UsageError: if there are no results, no such format or slide, an option that no format
            takes, or if ``out`` cannot be written or holds files of another origin.
    """
    _check(formats, options or {})
    opened = open_results(results)
    ids = _checked_ids(opened, slide_ids)
    folders = {name: _folder(opened, name, formats, out) for name in formats}
    for folder in folders.values():
        ExportFolder(folder).open()
    stems = file_stems(_paths(ResultsFolder(opened.path)))
    result = ExportResult(folders)
    tasks = [
        ExportTask(
            ResultsFolder(opened.path),
            slide_id,
            name,
            stems.get(slide_id, slide_id),
            folder,
            _options_of(name, options or {}),
        )
        for slide_id in ids
        for name, folder in folders.items()
        if name in FORMATS
    ]
    for task, outcome in _outcomes(tasks):
        _take(result, task, outcome, observe)
    if WORKBOOK in folders:
        try:
            result.written.append(_write_table(opened, slide_ids, folders[WORKBOOK]))
        except StoreError as error:
            result.failed.append(f"the table is not exported to {WORKBOOK}: {error}")
    return result


def _write_table(opened: Results, slide_ids: Sequence[str], folder: Path) -> Path:
    """Write the table of slides as an Excel workbook.

    Args:
        opened: folder of results.
        slide_ids: ids of slides; empty for all that the folder knows.
        folder: folder of the file.
    """
    table = opened.table()
    if slide_ids:
        table = table.filter(pc.is_in(table["slide_id"], pa.array(slide_ids)))
    columns = describe_columns(table)["columns"]
    write = partial(write_workbook, table, columns)
    return ExportFolder(folder).write("slides.xlsx", {"format": WORKBOOK}, write)


def _check(formats: Sequence[str], options: Mapping[str, Any]) -> None:
    """Check the names of formats, and that each option belongs to one of them.

    Raises:
        UsageError: if there is no such format, or no format takes an option.
    """
    if not formats:
        raise UsageError(f"--to names no format; choose among {', '.join((*FORMATS, WORKBOOK))}")
    for name in formats:
        try:
            check_format(name, WORKBOOK)
        except ValueError as error:
            raise UsageError(f"--to {error}; found {printable(name)}") from error
    for option in options:
        takers = [name for name in FORMATS if option in FORMATS[name].options]
        if not set(takers) & set(formats):
            raise UsageError(
                f"--{_shown(option)} is an option of {', '.join(takers)}, and --to is "
                f"{', '.join(formats)}"
            )


def _shown(option: str) -> str:
    """Name of an option as users type it."""
    for unit in ("_um2", "_um"):
        option = option.removesuffix(unit)
    return option.replace("_", "-")


def _checked_ids(opened: Results, slide_ids: Sequence[str]) -> list[str]:
    """Return the ids of the slides to export, sorted.

    Raises:
        UsageError: if a slide is not done, or the folder knows no such slide.
    """
    done = list(opened)
    for slide_id in slide_ids:
        if slide_id not in opened:
            try:
                opened[slide_id]
            except SlideNotDoneError as error:
                raise UsageError(f"{error}{did_you_mean(slide_id, done)}") from error
    return sorted(set(slide_ids)) if slide_ids else done


def _folder(opened: Results, name: str, formats: Sequence[str], out: Path | None) -> Path:
    """Return the folder of the files of a format."""
    if out is None:
        return ResultsFolder(opened.path).exports / name
    return out / name if len(formats) > 1 else out


def _options_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a format takes."""
    return {key: value for key, value in options.items() if key in FORMATS[name].options}


def _paths(results: ResultsFolder) -> dict[str, Path]:
    """Path of every slide that a folder of results knows, by id.

    Raises:
        StoreError: if the ledger or the results cannot be read.
    """
    return {row.slide_id: row.path for row in read_standing(results).rows()}


Outcome = tuple[Path, bool] | SlideError
"""Path of a file, and True if it was written now; or the error."""


def _outcomes(tasks: Sequence[ExportTask]) -> Iterator[tuple[ExportTask, Outcome]]:
    """Do tasks in as many processes as there are cores, and yield each as it ends.

    Most of the time goes into outlines and compression, which one process does with one core.
    """
    n_processes = min(cores(), len(tasks))
    if n_processes <= 1:
        yield from ((task, _do(task)) for task in tasks)
        return
    with without_main_module():
        pool = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"))
        futures = {pool.submit(_do, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], _result(future)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(future: "Future[Outcome]") -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        return StoreError(
            "a process that exported died, perhaps for lack of memory; run the same command again"
        )


def _do(task: ExportTask) -> Outcome:
    """Write the file of a task, unless it is current."""
    try:
        if path := task.current:
            return path, False
        return export_slide(task), True
    except SlideError as error:
        return error


def _take(result: ExportResult, task: ExportTask, outcome: Outcome, observe: Observer) -> None:
    """Add an outcome to the result, and tell of it."""
    if isinstance(outcome, SlideError):
        line = f"{task.slide_id}: not exported to {task.format}: {outcome}"
        result.failed.append(line)
        observe(line)
        return
    path, written = outcome
    (result.written if written else result.current).append(path)
    observe(f"{task.slide_id}: {path}{'' if written else ' is current'}")
