"""Durations, sizes and moments as people write them: ``30m``, ``4G``, ``07:00``."""

import re
from datetime import date, datetime, time, timedelta

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
OFF = "off"


def seconds_of(value: object) -> object:
    """``90s``, ``30m``, ``2h``, ``1d`` in seconds, ``off`` as None; what is no text is left as it
    is.

    Raises:
        ValueError: if the text is none of these.
    """
    if not isinstance(value, str) or value == OFF:
        return None if value == OFF else value
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd])", value)):
        raise ValueError("write a number with s, m, h or d, such as 90s, 30m or 2h; or off")
    return float(found[1]) * _SECONDS[found[2]]


def bytes_of(value: object) -> object:
    """``500M``, ``4G``, ``1.5 TB`` in bytes (of 1024); what is no text is left as it is.

    Raises:
        ValueError: if the text is no size.
    """
    if not isinstance(value, str):
        return value
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", value, re.IGNORECASE)):
        raise ValueError("write a number with K, M, G or T, such as 500M or 4G")
    return round(float(found[1]) * _BYTES[found[2].upper()])


def moment_text(value: object) -> object:
    """A time or date as text that `next_moment` understands.

    Raises:
        ValueError: if it is neither.
    """
    text = value.isoformat() if isinstance(value, time | date) else value
    if isinstance(text, str):
        next_moment(text, datetime.now().astimezone())
    return text


def next_moment(text: str, now: datetime) -> datetime:
    """The moment that a text means: ``07:00`` is the next time that a clock shows it, others are
    ISO dates with time.

    Args:
        text: what was written; local time unless it says otherwise.
        now: with time zone.

    Raises:
        ValueError: if it is neither.
    """
    try:
        shown = time.fromisoformat(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).astimezone()
        except ValueError:
            raise ValueError(
                "write a time such as 07:00, or a date with time such as 2026-11-24T07:00"
            ) from None
    moment = datetime.combine(now.date(), shown).astimezone()
    return (
        moment
        if moment > now
        else datetime.combine(now.date() + timedelta(days=1), shown).astimezone()
    )
