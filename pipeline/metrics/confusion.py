"""Confusion matrices: counted, added up over regions, and merged into coarser classes."""

from collections.abc import Sequence

import numpy as np

from noctile.pipeline.arrays import Int64, UInt8
from noctile.pipeline.truth.scheme import IGNORED, ClassScheme


def count_confusion(targets: UInt8, labels: UInt8, n: int) -> Int64:
    """Confusion matrix of one image.

    Args:
        targets: true class of each pixel, uint8 of any shape; `IGNORED` pixels are not counted.
        labels: predicted class of each pixel, uint8 of the same shape.
        n: number of classes.

    Returns:
        int64 ``[n, n]`` pixels, rows truth, columns prediction.
    """
    known = targets != IGNORED
    pairs = targets[known].astype(np.intp) * n + labels[known]
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def merge_classes(confusion: Int64, groups: Sequence[int]) -> Int64:
    """Confusion of coarser classes, and of one more class for predictions that are `IGNORED`.

    Args:
        confusion: int64 ``[..., n, n]``.
        groups: coarser class of each class, 0..m-1 or `IGNORED`. Pixels whose truth is ignored are
            dropped; pixels whose prediction is ignored are wrong.

    Returns:
        int64 ``[..., m + 1, m + 1]``; the last row is 0.
    """
    m = number_of_groups(groups)
    member = np.zeros((len(groups), m + 1), np.int64)
    member[np.arange(len(groups)), [m if group == IGNORED else group for group in groups]] = 1
    result: Int64 = member.T @ confusion @ member
    result[..., m, :] = 0
    return result


def number_of_groups(groups: Sequence[int]) -> int:
    """Number of coarser classes in a list of groups, without `IGNORED`."""
    return max(group for group in groups if group != IGNORED) + 1


def find_groups(scheme: ClassScheme, coarser: ClassScheme) -> list[int] | None:
    """Coarser class of each class of a scheme.

    Args:
        scheme: scheme with the finer classes.
        coarser: scheme with the coarser classes.

    Returns:
        Index of a class of ``coarser`` or `IGNORED` for each class of ``scheme``; None if a class
        belongs to several coarser ones.
    """
    parts: list[set[int | None]] = [set() for _ in scheme.classes]
    for code, k in scheme.sources.items():
        if k != IGNORED:
            parts[k].add(coarser.sources.get(code))
    found = [part.pop() if len(part) == 1 else None for part in parts]
    return [group for group in found if group is not None] if None not in found else None
