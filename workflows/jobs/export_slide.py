"""Export of the result of one slide to one file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.formats import FORMATS, Format
from noctile.workflows.jobs.messages import RunContext, StepJob
from noctile.workflows.results.checksums import slide_fault
from noctile.workflows.results.exports import ExportFolder, identity
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder, SlideFolder


@dataclass(frozen=True, slots=True)
class ExportTask:
    """One file to export: a slide in a format.

    Attributes:
        results: folder of results.
        slide_id: id of the slide, which is done.
        format: name of the format.
        stem: name of the file without suffix.
        folder: folder that the file comes to.
        options: value of each option of the format that is not the default.
    """

    results: ResultsFolder
    slide_id: str
    format: str
    stem: str
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slide(self) -> SlideFolder:
        """Folder of the slide's result."""
        return self.results.slide(self.slide_id)

    @property
    def about(self) -> Format:
        """The format."""
        return FORMATS[self.format]

    @property
    def file_name(self) -> str:
        """Name of the file; a large one may get ``.gz`` behind it."""
        return f"{self.stem}{self.about.suffix}"

    @property
    def made_from(self) -> dict[str, Any]:
        """Plain values that identify the result, the format and the options.

        Raises:
            StoreError: if the result cannot be read.
        """
        return {
            "slide_id": self.slide_id,
            "result": identity(self.slide),
            "format": self.format,
            "version": self.about.version,
            "options": {name: _plain(value) for name, value in sorted(self.options.items())},
        }

    @property
    def current(self) -> Path | None:
        """The exported file if it is there and not older than the result; else None.

        Raises:
            StoreError: if the result cannot be read.
        """
        return ExportFolder(self.folder).current(self.file_name, self.made_from)


def export_tasks(run: RunContext, slide_id: str, stem: str) -> list[ExportTask]:
    """Files that a run exports for a slide.

    Args:
        run: the run.
        slide_id: id of the slide.
        stem: name of the files without suffix.
    """
    results = run.results
    return [
        ExportTask(results, slide_id, name, stem, results.exports / name)
        for name in run.settings.export
    ]


def export_step(job: StepJob) -> tuple[str, ...]:
    """Write the files of a slide that are missing or older than its result.

    Returns:
        message about each file that could not be written.
    """
    faults = []
    for task in export_tasks(job.run, job.step.slide_id, job.stem):
        try:
            if not task.current:
                export_slide(task)
        except StoreError as error:
            faults.append(f"{task.format}: {error}")
    return tuple(faults)


def export_slide(task: ExportTask) -> Path:
    """Write the file of a slide in a format; the folder must have been opened.

    Returns:
        path of the file.

    Raises:
        StoreError: if the result is damaged or changes meanwhile, or the file cannot be written.
    """
    if fault := slide_fault(task.slide):
        raise StoreError(
            f"the result of {task.slide_id} is damaged: {fault} in {task.slide.path}; run the same "
            "command again, which makes it again"
        )
    from noctile.pipeline.export.source import ExportSource  # noqa: PLC0415 - loads Zarr

    made_from = task.made_from
    source = ExportSource.open(task.slide.mask, read_required_json(task.slide.summary))

    def write(path: Path) -> None:
        task.about.write(source, path, task.options)
        if identity(task.slide) != made_from["result"]:
            raise StoreError(
                f"the result of {task.slide_id} was replaced while it was exported; export it again"
            )

    put = partial(ExportFolder(task.folder).write, task.file_name, made_from)
    return put(write, task.about.gzip_above_bytes)


def _plain(value: Any) -> Any:
    """Return a value as JSON stores it."""
    return list(value) if isinstance(value, tuple) else value
