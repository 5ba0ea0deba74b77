"""Faults that `noctile verify` reports, each with its remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.errors import StoreError
from noctile.workflows.results.layout import SlideFolder

DELETE = "delete it"
"""Remedy for a file that was left over."""

RUN_AGAIN = "run the same command again"
"""Remedy for a slide whose folder is missing."""

WRITE_TABLES_AGAIN = "`noctile table` writes the tables anew"
"""Remedy for a table of the cohort."""

MEND_REVIEWS = "then type `noctile table`"
"""Remedy for a file of reviews, after its own message."""

MEND_AUDIT = "then type `noctile audit --status`"
"""Remedy for a file of an audit, after its own message."""

_SEGMENT_AGAIN = "delete {folder} and run the same command again"
_MEASURE_AGAIN = (
    "delete {folder}/summary.json and run the same command again, which measures the slide anew"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Difference between a file and the state in which it was written.

    Attributes:
        file: path of the file, relative to the folder of results.
        what: description of the fault, as a sentence without its subject.
        remedy: action that repairs the results.
    """

    file: str
    what: str
    remedy: str


class UnreadableFileError(Exception):
    """A file of a slide cannot be read, so that nothing that depends on it can be checked.

    Attributes:
        fault: fault of the file.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


def segment_again(slide_id: str) -> str:
    """Remedy for a slide whose masks are damaged."""
    return _SEGMENT_AGAIN.format(folder=f"slides/{slide_id}")


def file_fault(folder: SlideFolder, path: Path, what: str) -> Fault:
    """Describe a fault of one file of a slide, with the remedy that repeats the least work."""
    measured = (folder.summary, folder.checksums, folder.tiles, folder.preview)
    remedy = _MEASURE_AGAIN if path in measured else _SEGMENT_AGAIN
    name = path.relative_to(folder.path.parent.parent).as_posix()
    return Fault(name, what, remedy.format(folder=f"slides/{folder.path.name}"))


@contextmanager
def reading(folder: SlideFolder, path: Path) -> Iterator[None]:
    """Turn errors that a damaged file causes in its reader into an `UnreadableFileError`.

    Raises:
        UnreadableFileError: if the file cannot be read.
    """
    try:
        yield
    except (
        *(StoreError, OSError, ValueError, TypeError, LookupError),
        *(AttributeError, ArithmeticError, MemoryError),
    ) as error:
        raise UnreadableFileError(file_fault(folder, path, f"cannot be read: {error}")) from error
