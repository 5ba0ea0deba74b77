"""Record of a call, ``runs/<run id>.json``: settings, versions, model, machine and counts."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from noctile.pipeline.cohort import SlideRow
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.jobs.provenance import versions
from noctile.workflows.resources import cores
from noctile.workflows.results.files import write_json


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


def write_record(
    context: RunContext,
    start: datetime,
    rows: Sequence[SlideRow] | None = None,
    stopped: str | None = None,
) -> None:
    """Write the record of a run, at its start and again at its end.

    Args:
        context: the run.
        start: time of its start.
        rows: row of each slide of the call; None at the start.
        stopped: reason why the run was stopped; None if it was not.

    Raises:
        StoreError: if the file system refuses.
    """
    card = context.card
    counts = Counter(row.status for row in rows or ())
    record = {
        "run": context.run,
        "start": start.isoformat(timespec="seconds"),
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
    }
    write_json(context.results.run_record(context.run), record)
