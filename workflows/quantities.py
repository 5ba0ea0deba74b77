"""Durations, sizes and times as text: ``30m``, ``4G``, ``07:00``."""

import re
from datetime import date, datetime, time, timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
OFF = "off"


def seconds_of(value: object) -> object:
    """Convert ``90s``, ``30m``, ``2h`` or ``1d`` to seconds, and ``off`` to None.

    A value that is not text is returned as it is.

    Raises:
        ValueError: if the text is no duration.
    """
    if not isinstance(value, str) or value == OFF:
        return None if value == OFF else value
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd])", value)):
        raise ValueError("must be a number with s, m, h or d, such as 90s, 30m or 2h; or off")
    return float(found[1]) * _SECONDS[found[2]]


def bytes_of(value: object) -> object:
    """Convert ``500M``, ``4G`` or ``1.5 TB`` to bytes; a kilobyte has 1024.

    A value that is not text is returned as it is.

    Raises:
        ValueError: if the text is no size.
    """
    if not isinstance(value, str):
        return value
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", value, re.IGNORECASE)):
        raise ValueError("must be a number with K, M, G or T, such as 500M or 4G")
    return round(float(found[1]) * _BYTES[found[2].upper()])


def moment_text(value: object) -> object:
    """Convert a time or a date to text that `next_moment` understands, and check text.

    Raises:
        ValueError: if the text is neither a time nor a date with time.
    """
    text = value.isoformat() if isinstance(value, time | date) else value
    if isinstance(text, str):
        next_moment(text, datetime.now().astimezone())
    return text


def next_moment(text: str, now: datetime) -> datetime:
    """Return the date and time that a text means.

    Args:
        text: time of day such as ``07:00``, which means its next occurrence; or an ISO 8601 date
            with time. Both are local time unless the text has a time zone.
        now: present time, with its time zone.

    Raises:
        ValueError: if the text is neither.
    """
    try:
        shown = time.fromisoformat(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).astimezone()
        except ValueError:
            raise ValueError(
                "must be a time such as 07:00, or a date with time such as 2026-11-24T07:00"
            ) from None
    today = datetime.combine(now.date(), shown).astimezone()
    if today > now:
        return today
    return datetime.combine(now.date() + timedelta(days=1), shown).astimezone()
