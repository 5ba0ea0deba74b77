"""Check that enough of a slide's tissue could be read."""

from collections.abc import Collection

from noctile.pipeline.errors import UnreadableTissueError
from noctile.pipeline.geometry import Frame
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.quality import MAX_UNREADABLE, BlockStats, SlideQuality

_MAX_NAMED_REGIONS = 3
"""Largest number of regions that a message names; ``blocks.json`` lists all of them."""


def checked_quality(
    slide_id: str, native: Frame, plan: TilePlan, stats: Collection[BlockStats]
) -> SlideQuality:
    """Return the quality of a slide whose blocks are all segmented.

    Args:
        slide_id: name of the slide.
        native: frame of the slide's level 0.
        plan: plan of the slide.
        stats: statistics of all blocks, in any order.

    Raises:
        UnreadableTissueError: if too much of the tissue could not be read; the message names the
            first regions, in pixels of level 0.
    """
    quality = SlideQuality.from_blocks(stats)
    if quality.unreadable_fraction <= MAX_UNREADABLE:
        return quality
    unread = sorted(position for block in stats for position in block.unread)
    boxes = [
        plan.frame.project(plan.grid.core(*p).intersect(plan.frame.box), native)
        for p in unread[:_MAX_NAMED_REGIONS]
    ]
    regions = "; ".join(f"rows {b.y} to {b.y_stop}, columns {b.x} to {b.x_stop}" for b in boxes)
    more = f"; and {len(unread) - len(boxes)} more" if len(unread) > len(boxes) else ""
    raise UnreadableTissueError(
        f"slide {slide_id}: {quality.unreadable_fraction:.1%} of its tissue cannot be decoded, "
        f"more than {MAX_UNREADABLE:.0%}: level 0, {regions}{more}. The file is damaged or cut "
        "short there: copy it again from where it was scanned or archived, then run with "
        "--retry-failed"
    )
