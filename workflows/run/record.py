"""Record of a call, ``runs/<run id>.json``: settings, versions, model, machine and counts."""

import math
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.processes.usage import Usage
from noctile.workflows.resources import cores
from noctile.workflows.results.files import write_json
from noctile.workflows.run.progress import Observer, Progress

_PAUSE_S = 120.0
"""Pause between two records of a run at work (s)."""


def run_id(start: datetime) -> str:
    """Return the run id of a call that started then, for instance ``20261129T013000.123Z``."""
    return f"{start.astimezone(UTC):%Y%m%dT%H%M%S}.{start.microsecond // 1000:03d}Z"


def machine() -> dict[str, Any]:
    """Describe this machine and this process."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cores": cores(),
        "pid": os.getpid(),
    }


class RunRecord:
    """Writer of the record of a run.

    Args:
        context: the run.
        start: time of its start.
        usage: its use of the machine.
    """

    def __init__(self, context: RunContext, start: datetime, usage: Usage) -> None:
        self._context, self._start, self._usage = context, start, usage
        self._due = time.monotonic() + _PAUSE_S

    def write(self, rows: Sequence[SlideRow] | None = None, stopped: str | None = None) -> None:
        """Write the record, at the start of the run and again at its end.

        Args:
            rows: row of each slide of the call; None while the run is at work.
            stopped: reason why the run was stopped; None if it was not.

        Raises:
            StoreError: if the file system refuses.
        """
        context, card = self._context, self._context.card
        counts = Counter(row.status for row in rows or ())
        record = {
            "run": context.run,
            "start": self._start.isoformat(timespec="seconds"),
            "end": None if rows is None else datetime.now(UTC).isoformat(timespec="seconds"),
            "stopped": stopped,
            "slides": {status: counts[status] for status in ("done", "failed", "skipped")},
            "failed": [row.slide_id for row in rows or () if row.status == "failed"],
            "settings": context.settings.model_dump(mode="json"),
            "model": {"name": card.name, "sha256": card.sha256, "folder": context.model},
            "classes": [info.name for info in card.classes],
            "machine": machine(),
            "device": context.resources.device,
            "backend": context.resources.backend,
            "versions": versions(),
            "usage": self._usage.record(),
        }
        if rows is not None:
            self._due = math.inf  # no message after the end of the run writes it as at work
        write_json(context.results.run_record(context.run), record)

    def kept_current(self, observe: Observer) -> Observer:
        """Return an observer that also writes the record, every few minutes."""

        def observe_and_write(progress: Progress, message: str) -> None:
            observe(progress, message)
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + _PAUSE_S
                with suppress(StoreError):  # its end writes it again, and stops the run if it fails
                    self.write()

        return observe_and_write
