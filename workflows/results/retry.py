"""Repeated file operations: errors that pass within seconds do not stop a run."""

import time
from collections.abc import Callable
from typing import TypeVar

from noctile.workflows.engines.base import PASSING_ERRORS

PAUSES_S = (0.1, 0.5, 1.5)
"""Pauses before further attempts (s). Workers repeat whole steps after longer pauses."""

_Value = TypeVar("_Value")


def retried(call: Callable[[], _Value]) -> _Value:
    """Call a file operation, and call it again after pauses if it meets a passing error.

    Args:
        call: operation that may be repeated. A sync may not: its error is reported only once.

    Raises:
        OSError: if the last attempt meets an error, or any attempt one that does not pass.
    """
    for pause_s in PAUSES_S:
        try:
            return call()
        except OSError as error:
            if error.errno not in PASSING_ERRORS:
                raise
        time.sleep(pause_s)
    return call()
