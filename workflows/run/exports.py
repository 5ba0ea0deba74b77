"""Exports of a run: slides that are done get their files, one step for each slide."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.names import file_stems
from noctile.workflows.jobs.export_slide import ExportTask, export_tasks
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.jobs.steps import Step
from noctile.workflows.results.exports import ExportFolder
from noctile.workflows.results.standing import Standing


class Exports:
    """Slides of a run that wait for their files.

    Args:
        context: the run.
        standing: slides that stand in the folder of results.

    Attributes:
        failures: line about each slide whose files could not all be written.

    Raises:
        UsageError: if a folder of exports cannot be written, or holds files of another origin.
    """

    def __init__(self, context: RunContext, standing: Standing) -> None:
        self.failures: list[str] = []
        self._context, self._standing = context, standing
        self._waiting: deque[str] = deque()
        self._stems: dict[str, str] | None = None
        for name in () if context.planning else context.settings.export:
            ExportFolder(context.results.exports / name).open()

    def add(self, slide_id: str) -> None:
        """Let a slide that is done wait, unless its files are there and not older than it."""
        if not self._context.settings.export:
            return  # the names of files take the rows of all slides
        try:
            if all(task.current for task in self._tasks(slide_id)):
                return
        except StoreError:
            pass  # the step reports it
        self._waiting.append(slide_id)

    def next_step(self) -> Step | None:
        """Return the next step; None if no slide waits."""
        return Step("export", self._waiting.popleft()) if self._waiting else None

    def stem(self, step: Step) -> str:
        """Name, without suffix, of the files of the slide of a step; "" for other steps."""
        return self._stem(step.slide_id) if step.kind == "export" else ""

    def ended(self, slide_id: str, faults: Sequence[str]) -> str:
        """Note the end of a step, and return a line about it.

        Args:
            slide_id: id of the slide.
            faults: message about each file that could not be written.
        """
        if faults:
            self.failures.append(f"{slide_id}: not exported: {'; '.join(faults)}")
            return self.failures[-1]
        return f"{slide_id}: exported to {', '.join(self._context.settings.export)}"

    def _tasks(self, slide_id: str) -> list[ExportTask]:
        return export_tasks(self._context, slide_id, self._stem(slide_id))

    def _stem(self, slide_id: str) -> str:
        if self._stems is None:  # by now the call has recorded its slides
            paths: dict[str, str | Path] = {r.slide_id: r.path for r in self._standing.rows()}
            self._stems = file_stems(paths)
        return self._stems.get(slide_id, slide_id)
