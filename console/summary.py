"""Short tables for many slides: groups with counts and first examples, in bounded lines."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Column

    from noctile.workflows.commands.status import AuditStatus

MAX_ROWS = 20
"""Most slides that a table shows one by one, unless the user asks for all."""

_MAX_GROUPS = 10
"""Most groups that a table shows."""

_EXAMPLES, _EXAMPLE_CHARS = 3, 24
"""Most examples of a group, and most characters of each."""


def shortened(text: str, width: int) -> str:
    """Shorten a text in the middle to a number of characters, so that its end stays readable."""
    if len(text) <= width:
        return text
    end = max(0, width - 3) // 2
    return f"{text[: max(0, width - 3 - end)]}...{text[len(text) - end :]}"


def whole(header: str) -> "Column":
    """Make a column whose cells are wrapped and never cut, so that ids stay distinguishable."""
    from rich.table import Column

    return Column(header, overflow="fold")


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group slide ids by a reason or a flag; the largest group comes first.

    Args:
        pairs: group and slide id.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for group, slide_id in pairs:
        groups[group].append(slide_id)
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))


def group_lines(title: str, groups: dict[str, list[str]], width: int) -> list[str]:
    """Return a table with a line for each group: name, number of slides, first slides.

    Args:
        title: heading of the names.
        groups: slide ids by group, in the order of the lines.
        width: number of columns of the terminal.
    """
    if not groups:
        return []
    shown, rest = list(groups.items())[:_MAX_GROUPS], list(groups.values())[_MAX_GROUPS:]
    rows = [(name, len(ids), _examples(ids)) for name, ids in shown]
    if rest:
        rows.append((f"{len(rest)} others", sum(map(len, rest)), []))
    names = min(max(len(title), *(len(name) for name, _, _ in rows)), max(12, width // 2 - 6))
    left = width - names - 10
    return [
        f"{title:<{names}}  slides  first of them",
        *(
            f"{shortened(n, names):<{names}}  {k:>6}  {_joined(i, k, left)}".rstrip()
            for n, k, i in rows
        ),
    ]


def review_counts(reviews: Mapping[str, int]) -> str:
    """Return a part of a line: number of slides by review status; "" if none is reviewed.

    Args:
        reviews: number of slides by review status, as in the tables.
    """
    named = [f"{n} {status.replace('_', ' ')}" for status, n in sorted(reviews.items()) if n]
    return f"; reviewed: {', '.join(named)}" if named else ""


def audit_line(audit: "AuditStatus") -> str:
    """Return a line: points of an audit, answers of each reader, and points without use."""
    if audit.fault:
        return f"audit: {audit.fault}"
    named = [f"{name} {count}" for name, count in audit.readers.items()]
    more = ["..."] if len(named) > _MAX_GROUPS else []
    answered = ", ".join([*named[:_MAX_GROUPS], *more]) or "none"
    slides = f"{audit.stale} slide{'' if audit.stale == 1 else 's'}"
    stale = f"; not used, because the results have changed: points of {slides}"
    return f"audit: {audit.points} points, answered: {answered}{stale if audit.stale else ''}"


def _examples(slide_ids: list[str]) -> list[str]:
    return [shortened(slide_id, _EXAMPLE_CHARS) for slide_id in sorted(slide_ids)[:_EXAMPLES]]


def _joined(examples: list[str], number: int, width: int) -> str:
    """Join as many examples as fit into a width; "..." stands for the slides that are left out."""
    for count in range(len(examples), 0, -1):
        more = ["..."] if number > count else []
        text = ", ".join([*examples[:count], *more])
        if len(text) <= width:
            return text
    return shortened(examples[0], max(width, 4)) if examples else ""
