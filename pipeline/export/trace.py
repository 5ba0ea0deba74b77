"""Outlines of the connected foci of a label map, traced strip by strip along pixel edges.

A *run* is a stretch of one label in a row; its two ends are vertical pixel edges. A *focus* is a
set of pixels with the same label, connected over their sides (4 neighbours). From each end of a run
its outline goes on to exactly one other end, in the same row or in a neighbouring one, which
follows from the runs that overlap in two rows:

::

    down the right end of run a:   no run below          -> up the left end of a
                                   last run b below      -> down the right end of b, or, if the next
                                                            run above b is reached first, up its
                                                            left end

Up the left end is the mirror image. So all outlines of a strip are cycles and chains over the ends
of its runs. A chain ends at the last row; the next strip begins with this row again and joins it.
Memory grows with the length of the outlines that are open, not with the pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from noctile.pipeline.arrays import UInt8

Ring = npt.NDArray[np.int32]
"""Corners of a closed outline, int32 ``[n, 2]`` as ``x, y`` (pixel edges); the first one is not
repeated. Steps along x and along y take turns. Outer outlines have a positive area."""

_Ints = npt.NDArray[np.int64]

_OPEN, _DONE = -1, -2
"""Marks in place of the next end: the outline goes on in the next strip; it was followed."""


@dataclass(slots=True)
class Focus:
    """Connected pixels of one label.

    Attributes:
        label: value of the pixels.
        y: first row of the focus (px).
        x: first column in this row (px).
        area_px: number of pixels.
        rings: outlines: one outer outline, and one for each hole, in no order.
    """

    label: int
    y: int
    x: int
    area_px: int
    rings: list[Ring] = field(default_factory=list)

    def take(self, other: "Focus") -> None:
        """Add the pixels and outlines of another focus, which this one has met."""
        self.y, self.x = min((self.y, self.x), (other.y, other.x))
        self.area_px += other.area_px
        self.rings += other.rings


@dataclass(frozen=True, slots=True)
class _Arc:
    """Outline that is open: it comes from below the last row, and goes back there.

    Attributes:
        end: index, among the runs of the last row, of the run whose right end it goes down.
        points: its corners in order, in pieces.
    """

    end: int
    points: list[Ring]


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of some rows, sorted by row and start.

    Attributes:
        y: row of each run.
        start: first column of each run.
        stop: column behind each run.
        label: label of each run.
    """

    y: _Ints
    start: _Ints
    stop: _Ints
    label: npt.NDArray[np.uint8]

    def part(self, which: npt.NDArray[np.integer[Any]] | slice) -> "_Runs":
        """Return some of the runs."""
        return _Runs(self.y[which], self.start[which], self.stop[which], self.label[which])

    def then(self, other: "_Runs") -> "_Runs":
        """Return these runs and those of later rows."""
        pairs = zip(self.columns, other.columns, strict=True)
        return _Runs(*(np.concatenate(pair) for pair in pairs))

    @property
    def columns(self) -> tuple[Any, ...]:
        """The four arrays."""
        return self.y, self.start, self.stop, self.label

    def __len__(self) -> int:
        """Number of runs."""
        return len(self.y)


def trace_foci(strips: Iterable[tuple[int, UInt8]], width: int) -> Iterator[list[Focus]]:
    """Find the foci of a label map.

    Args:
        strips: first row of a strip, and its labels, uint8 ``[h, width]`` with one row or more;
            from top to bottom. Rows between strips are 0.
        width: number of columns of the label map.

    Yields:
        after each strip the foci that have ended, sorted by their first pixel.
    """
    tracer = _Tracer(width)
    for y, labels in strips:
        if y > tracer.y:
            yield tracer.end_all(y)
        yield tracer.add(labels)
    yield tracer.end_all(tracer.y)


class _Tracer:
    """State between two strips: the runs of the last row, and what begins or ends at them.

    Args:
        width: number of columns of the label map.

    Attributes:
        y: row that comes next.
    """

    def __init__(self, width: int) -> None:
        self._width, self.y = width, 0
        self._last = _find_runs(np.zeros((1, width), np.uint8), 0)
        self._foci: list[Focus] = []  # focus of each run of the last row
        self._arcs: list[_Arc] = []  # open outline that begins at the left end of each of them

    def add(self, labels: UInt8) -> list[Focus]:
        """Trace a strip, and return the foci that have ended, sorted by their first pixel."""
        runs = self._last.then(_find_runs(labels, self.y))
        self.y += len(labels)
        n_last = int((runs.y == self.y - 1).sum())
        above, below = _overlaps(runs, self._width)
        focus_of, foci = self._join_foci(runs, above, below)
        after = _next_ends(len(runs), above, below)
        after[: 2 * len(self._arcs) : 2] = [2 * arc.end + 1 for arc in self._arcs]
        after[len(after) - 2 * n_last + 1 :: 2] = _OPEN
        order, lengths = _follow(after, n_last)
        outlines = _outlines(runs, order, lengths, n_last, self._arcs)
        ends = np.cumsum(lengths)
        for start, ring in zip(ends[n_last:] - lengths[n_last:], outlines[n_last:], strict=True):
            foci[focus_of[order[start] // 2]].rings.append(np.concatenate(ring))
        last_nodes = order[ends[:n_last] - 1]
        first_last = len(runs) - n_last
        self._arcs = [
            _Arc(end, points)
            for end, points in zip(
                (last_nodes // 2 - first_last).tolist(), outlines[:n_last], strict=True
            )
        ]
        self._last = runs.part(slice(first_last, None))
        alive = focus_of[first_last:].tolist()
        self._foci = [foci[k] for k in alive]
        ended = [foci[k] for k in sorted(set(range(len(foci))) - set(alive))]
        return sorted(ended, key=lambda focus: (focus.y, focus.x))

    def end_all(self, y: int) -> list[Focus]:
        """End all foci, go to a row, and return the foci."""
        foci = self.add(np.zeros((1, self._width), np.uint8))
        self.y = y
        return foci

    def _join_foci(self, runs: _Runs, above: _Ints, below: _Ints) -> tuple[_Ints, list[Focus]]:
        """Join runs that overlap to foci; foci of earlier strips may meet.

        Returns:
            index of the focus of each run, and the foci.
        """
        n_before, first = len(self._foci), {id(focus): k for k, focus in enumerate(self._foci)}
        known = np.array([first[id(focus)] for focus in self._foci], np.int64)
        links = np.concatenate([above, np.arange(n_before)]), np.concatenate([below, known])
        graph = coo_array((np.ones(len(links[0]), np.int8), links), (len(runs), len(runs)))
        n_foci, focus_of = connected_components(graph, directed=False)
        px = runs.stop - runs.start
        px[:n_before] = 0  # they were counted in their strip
        area = np.bincount(focus_of, px, n_foci).astype(np.int64).tolist()
        firsts = runs.part(np.unique(focus_of, return_index=True)[1])
        about = (values.tolist() for values in (firsts.label, firsts.y, firsts.start))
        foci = [Focus(*values) for values in zip(*about, area, strict=True)]
        for k, focus in {
            id(f): (k, f) for k, f in zip(focus_of[:n_before].tolist(), self._foci, strict=True)
        }.values():
            foci[k].take(focus)
        return focus_of.astype(np.int64), foci


def _find_runs(labels: UInt8, y: int) -> _Runs:
    """Find the runs of a strip.

    Args:
        labels: uint8 ``[h, w]``.
        y: row of the first row.
    """
    height, width = labels.shape
    changes = np.empty((height, width + 1), np.bool_)
    changes[:, 0], changes[:, -1] = labels[:, 0] != 0, labels[:, -1] != 0
    np.not_equal(labels[:, 1:], labels[:, :-1], out=changes[:, 1:-1])
    row, column = np.divmod(np.flatnonzero(changes), width + 1)
    label = np.where(column < width, labels[row, np.minimum(column, width - 1)], 0)
    (starts,) = np.nonzero(label)
    return _Runs(row[starts] + y, column[starts], column[starts + 1], label[starts])


def _overlaps(runs: _Runs, width: int) -> tuple[_Ints, _Ints]:
    """Find the pairs of runs of one label that overlap in two neighbouring rows.

    Returns:
        index of the upper run and of the lower run of each pair. Both ascend.
    """
    row = width + 1
    starts, stops = runs.y * row + runs.start, runs.y * row + runs.stop
    first = np.searchsorted(stops, starts + row, side="right")
    count = np.maximum(np.searchsorted(starts, stops + row, side="left") - first, 0)
    above = np.repeat(np.arange(len(runs)), count)
    below = np.arange(len(above)) + np.repeat(first - np.cumsum(count) + count, count)
    same = runs.label[above] == runs.label[below]
    return above[same], below[same]


def _next_ends(n_runs: int, above: _Ints, below: _Ints) -> _Ints:
    """Find the end to which the outline goes on from each end of each run.

    Args:
        n_runs: number of runs.
        above: index of the upper run of each pair that overlaps.
        below: index of the lower run of each pair; pairs ascend in both.

    Returns:
        int64 ``[2 * n_runs]``: ends, of which ``2 * k`` is the left one of run ``k``, and
        ``2 * k + 1`` its right one.
    """
    after = np.arange(2 * n_runs) ^ 1  # without a run below or above: the other end of the run
    next_above, next_below = above[1:] != above[:-1], below[1:] != below[:-1]
    down = np.where(np.append(next_below, True), 2 * below + 1, 2 * np.roll(above, -1))
    up = np.where(np.append(True, next_above), 2 * above, 2 * np.roll(below, 1) + 1)
    last, first = np.append(next_above, True), np.append(True, next_below)
    if len(above):
        after[2 * above[last] + 1] = down[last]
        after[2 * below[first]] = up[first]
    return after


def _follow(after: _Ints, n_open: int) -> tuple[_Ints, _Ints]:
    """Follow all outlines: first the open ones, from the left ends of the last runs.

    Args:
        after: end that follows each end, or `_OPEN`.
        n_open: number of runs of the last row.

    Returns:
        the ends of all outlines, one outline behind the other, and the number of ends of each.
    """
    following, order, stops = after.tolist(), [], []
    open_ends = range(len(following) - 2 * n_open, len(following), 2)
    for start in (*open_ends, *range(0, len(following), 2)):
        end = start
        if following[end] == _DONE:
            continue
        while end != _OPEN and following[end] != _DONE:
            order.append(end)
            following[end], end = _DONE, following[end]
        stops.append(len(order))
    lengths: _Ints = np.diff(np.array([0, *stops]))
    return np.array(order, np.int64), lengths


def _outlines(
    runs: _Runs, order: _Ints, lengths: _Ints, n_open: int, arcs: Sequence[_Arc]
) -> list[list[Ring]]:
    """Make the corners of outlines.

    Args:
        runs: runs of the strip.
        order: ends of all outlines.
        lengths: number of ends of each outline.
        n_open: number of outlines that are open; they come first.
        arcs: open outlines of the strip before; each takes the way from the left end of its run,
            which is among the first ones, to the right end at which it stops.

    Returns:
        the corners of each outline, in pieces.
    """
    run, is_right = order // 2, order % 2 == 1
    x = np.where(is_right, runs.stop[run], runs.start[run])
    y = np.stack([runs.y[run] + ~is_right, runs.y[run] + is_right], 1)
    points = np.stack([np.stack([x, x], 1), y], 2).astype(np.int32)
    stops = np.cumsum(lengths)
    following = np.arange(1, len(order) + 1)
    following[stops - 1] = stops - lengths
    corner = (x != x[following]) | (is_right != is_right[following])
    is_arc = ~is_right & (run < len(arcs))
    corner &= ~is_arc  # the corners of the arc stand there instead
    kept = np.empty((len(order), 2), np.bool_)
    kept[:, 1], kept[following, 0] = corner, corner
    opening = slice(0, n_open)
    kept[(stops - lengths)[opening], 0] = kept[stops[opening] - 1, 1] = False
    return _cut(points, kept, stops, {int(k): arcs[run[k]].points for k in np.flatnonzero(is_arc)})


def _cut(
    points: npt.NDArray[np.int32],
    kept: npt.NDArray[np.bool_],
    stops: _Ints,
    inserted: Mapping[int, list[Ring]],
) -> list[list[Ring]]:
    """Divide the points of all outlines into outlines, and insert arcs.

    Args:
        points: int32 ``[n, 2, 2]``: the two points of each end of a run, as ``x, y``.
        kept: bool ``[n, 2]``: True for points that are corners.
        stops: index behind the last end of each outline.
        inserted: corners behind the first point of an end, by the index of the end.
    """
    corners = points[kept]
    index = np.concatenate([[0], np.cumsum(kept.ravel())])
    whole = {2 * stop for stop in stops.tolist()}  # point behind the last one of an outline
    arcs = {2 * k + 1: pieces for k, pieces in inserted.items()}
    outlines: list[list[Ring]] = [[]]
    begin = 0
    for cut in sorted(whole | arcs.keys()):
        end = int(index[cut])
        outlines[-1].append(corners[begin:end].copy())
        begin = end
        outlines[-1].extend(arcs.get(cut, ()))
        if cut in whole:
            outlines.append([])
    return outlines[:-1]
