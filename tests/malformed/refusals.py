"""Documented errors of calls within limits, and text that parsers refuse."""

from typing import Any

from malformed.limits import within_limits

from noctile.pipeline.errors import NoctileError

DEEP = "[" * 100_000 + "]" * 100_000


DIGITS = "9" * 10_000


def refusal(read: Any, *arguments: Any) -> str:
    """Text of the documented error of a call, which must fit on a screen."""
    found = within_limits(read, *arguments)
    assert isinstance(found, NoctileError), repr(found)[:500]
    assert len(str(found)) < 6000
    return str(found)
