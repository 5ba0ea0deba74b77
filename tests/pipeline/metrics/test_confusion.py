"""Confusion matrices are counted and merged into coarser classes."""

import numpy as np

from noctile.pipeline.metrics.confusion import count_confusion, find_groups, merge_classes
from noctile.pipeline.truth.scheme import BUILT_IN, IGNORED


class TestCoarserClasses:
    def test_merged_adds_up_drops_ignored_truth_and_counts_ignored_answers_as_wrong(self) -> None:
        confusion = np.arange(16).reshape(4, 4)
        found = merge_classes(confusion, [0, 0, 1, IGNORED])
        assert found.tolist() == [[0 + 1 + 4 + 5, 2 + 6, 3 + 7], [8 + 9, 10, 11], [0, 0, 0]]

    def test_bcss21_is_part_of_bcss5_and_tumor_is_not(self) -> None:
        groups = find_groups(BUILT_IN["bcss21"], BUILT_IN["bcss5"])
        named = dict(zip((info.name for info in BUILT_IN["bcss21"].classes), groups, strict=True))
        assert [k for k, group in named.items() if group == 0] == ["tumor", "angioinvasion", "dcis"]
        assert (named["plasma_cells"], named["necrosis_or_debris"], named["fat"]) == (2, 3, 4)
        assert named["exclude"] == named["undetermined"] == IGNORED
        assert find_groups(BUILT_IN["bcss5"], BUILT_IN["bcss5"]) == [0, 1, 2, 3, 4]
        assert find_groups(BUILT_IN["tumor"], BUILT_IN["bcss5"]) is None


def test_counts_are_those_of_each_pair_and_ignored_truth_is_left_out() -> None:
    targets = np.array([0, 0, 1, IGNORED, 1], np.uint8)
    labels = np.array([0, 1, 1, 1, 1], np.uint8)
    assert count_confusion(targets, labels, 2).tolist() == [[1, 1], [0, 2]]
