"""Everything that can go wrong and that Noctile names.

::

    NoctileError
    |-- UsageError             the call itself is wrong: settings, manifest, paths     (exit code 2)
    |   `-- ModelError         a model folder is missing, altered or contradicts itself
    `-- SlideError             one slide cannot be done; the others go on              (exit code 1)
        |-- SlideOpenError         reason "unopenable"         no reader knows the file
        |-- SlideReadError         reason "unreadable"         it opens, its pixels do not decode
        |-- UnreadableTissueError  reason "unreadable_tissue"  too much of its tissue does not decode
        |-- MppMissingError        reason "mpp_missing"        nothing says how large a pixel is
        |-- MppImplausibleError    reason "mpp_implausible"    what it says cannot be true
        `-- StoreError             reason "store"              a result cannot be written or read
        back

An error says what happened, to which slide, what was found and what to do. ``reason`` is the code
that stands in the tables, so that a program can group failures without reading sentences.
"""

from typing import ClassVar


class NoctileError(Exception):
    """Base of every error that Noctile raises on purpose."""


class UsageError(NoctileError):
    """The call cannot work for any slide: wrong settings, an unusable manifest, nothing to read."""


class ModelError(UsageError):
    """A model folder is missing, incomplete, altered, or its card does not fit its weights."""


class SlideError(NoctileError):
    """One slide cannot be done. The run records ``reason`` and goes on with the others."""

    reason: ClassVar[str] = "slide_error"


class SlideOpenError(SlideError):
    """No reader opens the file, or it does not exist."""

    reason = "unopenable"


class SlideReadError(SlideError):
    """The file opens, but its pixels cannot be decoded."""

    reason = "unreadable"


class UnreadableTissueError(SlideError):
    """The file opens, but too much of its tissue cannot be decoded for areas to be the slide's."""

    reason = "unreadable_tissue"


class MppMissingError(SlideError):
    """Nothing in the file or the call says how many micrometres a pixel measures."""

    reason = "mpp_missing"


class MppImplausibleError(SlideError):
    """The pixel size that was found cannot be that of a slide scan at the level read."""

    reason = "mpp_implausible"


class StoreError(SlideError):
    """A result cannot be written, or what was written is not what is read back."""

    reason = "store"
