"""Flow diagram of a cohort as plain boxes, from which a template draws SVG."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from noctile.pipeline.patients.flow import REASONS, Count, Flow, counted
from noctile.pipeline.report.template import load_template
from noctile.pipeline.untrusted import printable

WIDTH: Final = 760
_LEFT, _MAIN, _SIDE = 20, 340, 340
_LINE, _PAD, _GAP = 18, 10, 26
_CHARS: Final = 46
_MOST_REASONS: Final = 8
_IN_ROW: Final = 4


@dataclass(frozen=True, slots=True)
class Box:
    """Box of the diagram, in px.

    Attributes:
        x: left edge.
        y: top edge.
        width: width.
        height: height.
        lines: lines of text; the first one is bold.
        soft: True for a box beside the main route.
    """

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]
    soft: bool = False

    @property
    def bottom(self) -> int:
        """Lower edge (px)."""
        return self.y + self.height

    @property
    def middle(self) -> int:
        """Horizontal middle (px)."""
        return self.x + self.width // 2


@dataclass(frozen=True, slots=True)
class FlowChart:
    """Diagram that is ready to draw.

    Attributes:
        height: height of the picture (px).
        boxes: the boxes.
        arrows: paths of the arrows between them, as SVG writes them.
        description: the diagram in words, for readers who cannot see it.
    """

    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    description: str


def flow_svg(flow: Flow, groups_title: str) -> str:
    """Draw the flow of slides and patients as SVG.

    Args:
        flow: counts of the flow.
        groups_title: column of the groups; "" for none.
    """
    chart = lay_out(flow, groups_title)
    return load_template("flow.html").render(chart=chart, width=WIDTH, line=_LINE, pad=_PAD)


def lay_out(flow: Flow, groups_title: str) -> FlowChart:
    """Lay out the boxes of a flow."""
    boxes: list[Box] = []
    arrows: list[str] = []
    y = _PAD
    steps = _steps(flow)
    for k, (main, side) in enumerate(steps):
        box = _box(_LEFT, y, _MAIN, main)
        if boxes:
            last = next(b for b in reversed(boxes) if not b.soft)
            arrows.append(f"M{last.middle} {last.bottom} V{box.y}")
        boxes.append(box)
        y = box.bottom + _GAP
        if side:
            beside = _box(_LEFT + _MAIN + 40, y, _SIDE, side, soft=True)
            middle = beside.y + beside.height // 2
            arrows.append(f"M{box.middle} {middle} H{beside.x}")
            boxes.append(beside)
            y = beside.bottom + _GAP
        if k == len(steps) - 1 and flow.groups:
            y = _add_groups(boxes, arrows, box, y, (flow, groups_title))
    text = ". ".join("; ".join(box.lines) for box in boxes)
    return FlowChart(y, tuple(boxes), tuple(arrows), text)


def _steps(flow: Flow) -> Sequence[tuple[Sequence[str], Sequence[str]]]:
    """Lines of each box on the main route, and of the box beside the way to the next one."""
    lost = list(_lost(flow))
    out = [f"{counted(n.patients, 'patient')}: {REASONS[reason]}" for reason, n in flow.excluded]
    if flow.unmatched_rows:
        out.append(f"{counted(flow.unmatched_rows, 'row')} of the clinical table without a slide")
    flagged = [f"{flow.flagged.slides} of them flagged"] if flow.flagged.slides else []
    return (
        (["Submitted", _both(flow.submitted)], ["Not analysed", *lost] if lost else []),
        (
            ["With a result that counts", _both(flow.with_result), *flagged],
            ["Not part of the question", *out] if out else [],
        ),
        (["Analysed", _both(flow.analysed)], []),
    )


def _lost(flow: Flow) -> Iterator[str]:
    for reason, n in flow.not_done[:_MOST_REASONS]:
        yield f"{counted(n, 'slide')} without a result: {reason}"
    more = flow.not_done[_MOST_REASONS:]
    if more:
        yield f"{counted(sum(n for _, n in more), 'slide')} for {len(more)} other reasons"
    if flow.rejected:
        yield f"{counted(flow.rejected, 'slide')} rejected by a reviewer"
    if flow.not_listed:
        yield f"{counted(flow.not_listed, 'slide')} without a row in the clinical table"


def _add_groups(
    boxes: list[Box], arrows: list[str], above: Box, y: int, about: tuple[Flow, str]
) -> int:
    """Add a row of boxes for the groups; return the next free position."""
    flow, title = about
    some = min(_IN_ROW, len(flow.groups))
    width = (WIDTH - 2 * _LEFT - (some - 1) * 14) // some
    for first in range(0, len(flow.groups), _IN_ROW):
        row = [
            _box(_LEFT + k * (width + 14), y, width, [f"{title}: {name}", _both(count)])
            for k, (name, count) in enumerate(flow.groups[first : first + _IN_ROW])
        ]
        if not first:
            start = f"M{above.middle} {above.bottom} v{_GAP // 2 - 4}"
            arrows += [f"{start} H{box.middle} V{box.y}" for box in row]
        boxes += row
        y = max(box.bottom for box in row) + 14
    return y


def _box(x: int, y: int, width: int, lines: Sequence[str], *, soft: bool = False) -> Box:
    chars = _CHARS * width // _MAIN
    wrapped = [part for line in lines for part in textwrap.wrap(printable(line), chars)[:3]]
    return Box(x, y, width, len(wrapped) * _LINE + 2 * _PAD, tuple(wrapped), soft)


def _both(count: Count) -> str:
    return f"{counted(count.slides, 'slide')}, {counted(count.patients, 'patient')}"
