"""Number of further points that a wanted interval takes.

Source: Cochran, Sampling Techniques, 3rd edition (1977), chapter 4 (sample size from a first
sample) and section 10.6 (two stages: points narrow only the part that they cause).
"""

import math

from noctile.pipeline.statistics.estimate import Estimate


def further_points(
    area: Estimate, points: int, half_width: float, slides_part: float = 0.0
) -> int | None:
    """Return the number of further points until an interval is as narrow as wanted.

    The squared half-width is the sum of a part that falls as 1 / points and of a part that the
    choice of slides causes, which further points on the same slides do not change.

    Args:
        area: figure with its present interval.
        points: number of points that were answered with a class.
        half_width: wanted half of the interval's width, in the unit of the figure.
        slides_part: part of the variance that the choice of slides causes, from 0 to 1.

    Returns:
        0 if the interval is narrow enough; None if no number of points on these slides suffices,
        or there is no interval.

    Raises:
        ValueError: the wanted half-width is not above 0.
    """
    if not half_width > 0:
        raise ValueError(f"the wanted half-width must be above 0, not {half_width}")
    now = (area.high - area.low) / 2
    if math.isnan(now):
        return None
    if now <= half_width:
        return 0
    left = half_width**2 - slides_part * now**2
    if left <= 0:
        return None
    return math.ceil(points * ((1 - slides_part) * now**2 / left - 1) - 1e-9)
