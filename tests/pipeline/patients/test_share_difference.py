"""Correction of comparisons on shares, by hand."""

from dataclasses import dataclass

import pytest

from noctile.pipeline.patients.share_difference import share_differences
from noctile.pipeline.statistics.estimate import Estimate


@dataclass(frozen=True)
class Pair:
    p: float
    difference: Estimate


def test_p_values_are_corrected_over_classes_and_pairs():
    compared = (("tumor", "b", 0.01), ("fat", "b", 0.5), ("fat", "c", 0.03))
    rows = [(name, "a", b, Pair(p, Estimate(0.1))) for name, b, p in compared]
    found = share_differences(rows)
    assert [(d.name, d.a, d.b, d.found) for d in found] == rows
    assert [d.p_holm for d in found] == pytest.approx([0.03, 0.5, 0.06])
    assert share_differences([]) == ()
