"""Slides of two folders of results, matched so that each pair shows the same slide."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from noctile.pipeline.csv_cells import read_csv, unescape_cell
from noctile.pipeline.errors import UsageError
from noctile.pipeline.untrusted import printable

MatchedBy = Literal["manifest", "content", "slide_id"]

DAMAGED = "damaged"
"""Status of a slide whose result is there and cannot be read."""

_MANIFEST_BYTES = 2**26
"""Largest file of pairs that is read (B)."""


@dataclass(frozen=True, slots=True)
class Known:
    """Slide that a folder of results knows.

    Attributes:
        slide_id: its id there.
        fingerprint: hash of the size and sampled content of its file; "" if it is not known.
        sha256: hash of all bytes of its file; "" if it was not computed.
        done: True if it has a result.
        status: done, failed, skipped or damaged.
        message: text that says why it has no result; "" if it is done.
    """

    slide_id: str
    fingerprint: str
    sha256: str
    done: bool
    status: str
    message: str

    def is_same_file(self, other: "Known") -> bool:
        """Tell if two slides have the same content."""
        if not self.fingerprint or self.fingerprint != other.fingerprint:
            return False
        return not (self.sha256 and other.sha256) or self.sha256 == other.sha256


@dataclass(frozen=True, slots=True)
class Pair:
    """The same slide in two folders of results.

    Attributes:
        a: the slide in the first folder.
        b: the slide in the second folder.
        matched_by: the rule that matched them.
    """

    a: Known
    b: Known
    matched_by: MatchedBy


@dataclass(frozen=True, slots=True)
class Matches:
    """Result of the matching. Each slide is in exactly one of its parts.

    Attributes:
        pairs: slides that both folders know, sorted by their id in the first.
        only_a: slides that the first folder alone knows, sorted by id.
        only_b: slides that the second folder alone knows, sorted by id.
    """

    pairs: tuple[Pair, ...]
    only_a: tuple[Known, ...]
    only_b: tuple[Known, ...]


def match_slides(
    a: Mapping[str, Known], b: Mapping[str, Known], named: Iterable[tuple[str, str]] = ()
) -> Matches:
    """Match slides: as a manifest names them, then by content, then by id.

    Of several slides with the same content, those with the same id are matched first, the others in
    the order of their ids.

    Args:
        a: slides of the first folder, by id.
        b: slides of the second folder, by id.
        named: ids of a manifest, in the first and in the second folder; each occurs once.
    """
    left_a, left_b = dict(a), dict(b)
    pairs: list[Pair] = []

    def take(id_a: str, id_b: str, rule: MatchedBy) -> None:
        pairs.append(Pair(left_a.pop(id_a), left_b.pop(id_b), rule))

    for id_a, id_b in named:
        take(id_a, id_b, "manifest")
    for slide_id in sorted(left_a.keys() & left_b.keys()):
        if left_a[slide_id].is_same_file(left_b[slide_id]):
            take(slide_id, slide_id, "content")
    ids_of = defaultdict[str, list[str]](list)
    for slide_id in sorted(left_b):
        ids_of[left_b[slide_id].fingerprint].append(slide_id)
    for slide_id in sorted(left_a):
        slide = left_a[slide_id]
        same = ids_of[slide.fingerprint] if slide.fingerprint else []
        candidates = (i for i in same if i in left_b)
        if found := next((i for i in candidates if slide.is_same_file(left_b[i])), None):
            take(slide_id, found, "content")
    for slide_id in sorted(left_a.keys() & left_b.keys()):
        take(slide_id, slide_id, "slide_id")
    only_a, only_b = (tuple(left[i] for i in sorted(left)) for left in (left_a, left_b))
    return Matches(tuple(sorted(pairs, key=lambda pair: pair.a.slide_id)), only_a, only_b)


def read_pairs(path: Path, a: Mapping[str, Known], b: Mapping[str, Known]) -> list[tuple[str, str]]:
    """Read the ids of a manifest with the columns ``a`` and ``b``.

    Args:
        path: CSV file.
        a: slides of the first folder, by id.
        b: slides of the second folder, by id.

    Raises:
        UsageError: if it cannot be read, lacks a column, or names a slide twice or an unknown one.
    """
    try:
        lines = [[cell.strip() for cell in line] for line in read_csv(path, _MANIFEST_BYTES)]
    except (OSError, ValueError) as error:
        raise UsageError(f"--match {path} cannot be read: {error}") from error
    header = lines[0] if lines else []
    if not {"a", "b"} <= set(header):
        raise UsageError(f"--match {path} has no columns a and b in its first line")
    at = header.index("a"), header.index("b")
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines[1:], 2):
        if any(line):
            id_a, id_b = (unescape_cell(line[k]) if k < len(line) else "" for k in at)
            pairs.append((id_a, id_b))
            _check_pair(f"--match {path}, line {number}", pairs, a, b)
    return pairs


def _check_pair(
    where: str, pairs: list[tuple[str, str]], a: Mapping[str, Known], b: Mapping[str, Known]
) -> None:
    """Check the last pair of a manifest against the folders, and against the pairs before it.

    Raises:
        UsageError: if a folder does not know its slide, or a pair before has it.
    """
    for side, known in enumerate((a, b)):
        slide_id = pairs[-1][side]
        name = f"{where}: slide {printable(slide_id)} of {'ab'[side]}"
        if slide_id not in known:
            raise UsageError(f"{name} is not in that folder of results")
        if slide_id in (pair[side] for pair in pairs[:-1]):
            raise UsageError(f"{name} is named twice")
