"""Rows of a manifest, paired with the slides that they describe."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.links import real_path
from noctile.pipeline.slides.manifest import ManifestRow
from noctile.pipeline.slides.names import unique_ids

Pair = tuple[Path, ManifestRow | None]
"""Path of a slide, and its row of the manifest, if it has one."""

_SHOWN_ROWS = 5
"""Largest number of rows that a warning names."""


def listed_slides(rows: Iterable[ManifestRow]) -> list[Pair]:
    """Pair each row of a manifest with the path that it names.

    Raises:
        UsageError: if a row has no path, or two rows name the same file.
    """
    pairs: list[Pair] = []
    seen: dict[Path, ManifestRow] = {}
    for row in rows:
        if row.path is None:
            raise UsageError(
                f"{row.location}: no path; without slides in the call, the manifest needs a "
                "column path"
            )
        other = seen.setdefault(real_path(row.path), row)
        if other is not row:
            raise UsageError(
                f"{row.location}: {row.path} was named before ({other.location}); keep one of "
                "the rows"
            )
        pairs.append((row.path, row))
    return pairs


def pair_rows(
    paths: Sequence[Path],
    rows: Iterable[ManifestRow],
    left_out: Iterable[Path],
    warn: Callable[[str], None],
) -> list[Pair]:
    """Pair each slide of a call with its row of the manifest, if it has one.

    A row of a path that is left out adds nothing. Rows that fit no slide are named in a warning.

    Args:
        paths: absolute paths of the slides, each file once.
        rows: rows of the manifest.
        left_out: paths of the call that are not taken as slides.
        warn: called with a line about rows that fit no slide.

    Raises:
        UsageError: if a row fits several slides, two rows fit one, or no row fits any.
    """
    row_of: dict[Path, ManifestRow] = {}
    useless = []
    slides, others = _Paths(paths), _Paths(left_out)
    for row in rows:
        matches = slides.fitting(row)
        if len(matches) > 1:
            raise UsageError(
                f"{row.location}: among the slides of the call, {row.name} fits {len(matches)} "
                f"slides ({', '.join(map(str, matches[:_SHOWN_ROWS]))}). Give the row a path"
            )
        if not matches:
            useless += [] if others.fitting(row) else [row]
            continue
        other = row_of.setdefault(matches[0], row)
        if other is not row:
            raise UsageError(
                f"{row.location}: {matches[0]} has a row already ({other.location}); keep one of "
                "the rows"
            )
    _report_useless(useless, row_of, warn)
    return [(path, row_of.get(path)) for path in paths]


def _report_useless(
    rows: Sequence[ManifestRow], row_of: Collection[Path], warn: Callable[[str], None]
) -> None:
    """Warn of rows that fit no slide; if no row fits one, that is an error."""
    if not rows:
        return
    first = f"{rows[0].location}: among the slides of the call, {rows[0].name} is not there"
    if not row_of:
        raise UsageError(first)
    names = ", ".join(row.name for row in rows[:_SHOWN_ROWS])
    more = ", ..." if len(rows) > _SHOWN_ROWS else ""
    warn(f"{first}. Rows of the manifest without a slide in this call: {len(rows)} ({names}{more})")


class _Paths:
    """Paths by file, by name and by the slide_id that they would have without a manifest.

    Args:
        paths: absolute paths.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: defaultdict[Path, list[Path]] = defaultdict(list)
        self._names: defaultdict[str, list[Path]] = defaultdict(list)
        self._ids: defaultdict[str, list[Path]] = defaultdict(list)
        for path, slide_id in unique_ids(paths, ()).items():
            self._files[real_path(path)].append(path)
            self._ids[slide_id].append(path)
            for name in {path.name, path.stem}:
                self._names[name].append(path)

    def fitting(self, row: ManifestRow) -> list[Path]:
        """Paths that fit a row: its file, or without such a file those with its name or id."""
        wanted = row.path
        if wanted and os.path.isfile(wanted):  # noqa: PTH113 - false where access is denied
            return self._files.get(real_path(wanted), [])
        if wanted and (
            same := [p for p in self._names.get(wanted.name, []) if p.name == wanted.name]
        ):
            return same
        names = {row.slide_id, *((wanted.name, wanted.stem) if wanted else ())} - {None}
        same = sorted({path for name in names for path in self._names.get(str(name), [])})
        return same or self._ids.get(row.slide_id or "", [])
