"""Report of a slide that failed, in a file of its own."""

from pathlib import Path

from noctile.pipeline.untrusted import printable, printable_lines
from noctile.workflows.engines.base import Failure
from noctile.workflows.results.files import write_atomic


def write_failure_report(path: Path, slide_id: str, step: str, failure: Failure) -> None:
    """Write why a slide failed, with the traceback.

    Args:
        path: path of the report.
        slide_id: id of the slide.
        step: step that failed, for a reader.
        failure: reason, message and traceback.

    Raises:
        StoreError: if the file system refuses.
    """
    about = {
        "slide": slide_id,
        "reason": failure.reason,
        "message": failure.message,
        "step": step,
    }
    head = "".join(f"{name}: {printable(value)}\n" for name, value in about.items())
    text = f"{head}\n{printable_lines(failure.traceback)}"
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))
