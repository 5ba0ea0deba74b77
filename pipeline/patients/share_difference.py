"""Comparisons of groups on the shares of classes, with corrected p-values."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from noctile.pipeline.statistics.estimate import Estimate
from noctile.pipeline.statistics.multiplicity import holm


class Compared(Protocol):
    """Comparison of two groups: their difference, and its two-sided p-value."""

    @property
    def difference(self) -> Estimate: ...  # noqa: D102 (the class says it)

    @property
    def p(self) -> float: ...  # noqa: D102


Found_co = TypeVar("Found_co", bound=Compared, covariant=True)


@dataclass(frozen=True, slots=True)
class ShareDifference(Generic[Found_co]):
    """Comparison of two groups on the share of a class.

    Attributes:
        name: name of the class.
        a: first group.
        b: second group.
        found: the comparison.
        p_holm: its p-value, corrected for the number of classes and pairs.
    """

    name: str
    a: str
    b: str
    found: Found_co
    p_holm: float


def share_differences(
    compared: Iterable[tuple[str, str, str, Found_co]],
) -> tuple[ShareDifference[Found_co], ...]:
    """Correct the p-values of all comparisons with Holm's method.

    Args:
        compared: name of the class, first group, second group, and comparison of each.
    """
    rows = list(compared)
    corrected = holm([found.p for *_, found in rows])
    return tuple(ShareDifference(*row, float(p)) for row, p in zip(rows, corrected, strict=True))
