"""The errors that Noctile raises on purpose.

::

    NoctileError
    |-- UsageError             wrong settings, manifest or paths                       (exit code 2)
    |   `-- ModelError         a model folder is missing, altered or contradicts itself
    |-- SlideNotDoneError      results that were opened hold no result of a slide; a KeyError too
    |-- ReviewConflictError    a review was saved by another program since it was read
    `-- SlideError             one slide fails; the others go on                       (exit code 1)
        |-- SlideMissingError      reason "missing"             there is no such file
        |-- SlideOpenError         reason "unopenable"          no reader opens the file
        |-- SlideReadError         reason "unreadable"          the pixels cannot be decoded
        |-- UnreadableTissueError  reason "unreadable_tissue"   too much tissue cannot be decoded
        |-- StorageError           reason "storage"             the disk answers with an error
        |-- ChangedWhileReadError  reason "changed_while_read"  the file is not what was planned
        |-- MppMissingError        reason "mpp_missing"         the pixel size is unknown
        |-- MppImplausibleError    reason "mpp_implausible"     the pixel size cannot be right
        |-- RoiError               reason "roi_invalid"         the region of interest does not fit
        |-- TissueMaskError        reason "tissue_mask_invalid" the given tissue mask does not fit
        `-- StoreError             reason "store"               a result cannot be written or read

A message says what happened, to which slide, what was found and what to do. ``reason`` is the code
in the tables, so that a program can group failures without parsing messages.
"""

from typing import Any, ClassVar


class NoctileError(Exception):
    """Base class of the errors that Noctile raises on purpose."""


class UsageError(NoctileError):
    """Error of the whole call: wrong settings, an unusable manifest, or no slides."""


class ModelError(UsageError):
    """A model folder is missing, incomplete or altered, or its card does not fit its weights."""


class SlideNotDoneError(NoctileError, KeyError):
    """A folder of results holds no result of a slide: it failed, is not done, or is unknown."""

    def __str__(self) -> str:
        """Return the message; a `KeyError` would put it into quotes."""
        return str(self.args[0])


class ReviewConflictError(NoctileError):
    """A review was not saved, because another program has saved it since it was read.

    Attributes:
        current: review of the slide as it stands now.
    """

    def __init__(self, message: str, current: Any) -> None:
        super().__init__(message)
        self.current = current


class SlideError(NoctileError):
    """One slide cannot be segmented. The run records ``reason`` and goes on with the others.

    Attributes:
        reason: code of the error in the tables.
    """

    reason: ClassVar[str] = "slide_error"


class SlideMissingError(SlideError):
    """There is no file with the slide's path."""

    reason = "missing"


class SlideOpenError(SlideError):
    """No reader opens the file."""

    reason = "unopenable"


class SlideReadError(SlideError):
    """The file opens, but its pixels cannot be decoded."""

    reason = "unreadable"


class UnreadableTissueError(SlideError):
    """Too much of the tissue cannot be decoded, so areas would not describe the slide."""

    reason = "unreadable_tissue"


class StorageError(SlideError):
    """The disk or the network with the slide answers with an error, so its content is unknown.

    The run repeats the step. It decides then if the slide or the storage is the cause.
    """

    reason = "storage"


class ChangedWhileReadError(SlideError):
    """The file was changed or removed after the slide was planned."""

    reason = "changed_while_read"


class MppMissingError(SlideError):
    """Neither the file nor the call gives the pixel size."""

    reason = "mpp_missing"


class MppImplausibleError(SlideError):
    """The pixel size that was found is impossible for a scan of a slide."""

    reason = "mpp_implausible"


class RoiError(SlideError):
    """The region of interest of a slide cannot be read, or does not lie on the slide."""

    reason = "roi_invalid"


class TissueMaskError(SlideError):
    """The tissue mask that the user gives cannot be read, or is not that of the slide."""

    reason = "tissue_mask_invalid"


class StoreError(SlideError):
    """A result cannot be written, or it differs when it is read back."""

    reason = "store"
