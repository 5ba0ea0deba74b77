"""An audit and its answers, as they must stand whatever is typed, read from the files alone."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from results_model import Stand

DRAWN = ("design.json", "points.csv")
"""Files that are never changed once both are there."""


@dataclass
class AuditModel:
    """Audit of a folder: its files as they were drawn, and the answers that were given.

    Attributes:
        out: folder of results.
        drawn: content of `DRAWN`; empty before an audit is drawn.
        sources: results that the points were drawn from, by id.
        answers: answers that may stand, by point and reader; "" for none.
    """

    out: Path
    drawn: dict[str, bytes] = field(default_factory=dict)
    sources: dict[str, Stand] = field(default_factory=dict)
    answers: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def points(self) -> dict[str, str]:
        """Slide of each point, by the name of the point."""
        lines = self.drawn["points.csv"].decode().splitlines() if self.drawn else []
        return {row["point_id"]: row["slide_id"] for row in csv.DictReader(lines)}

    def stale(self, standing: Mapping[str, Stand]) -> list[str]:
        """Slides with points whose result is not the one that the points were drawn from."""
        return sorted(i for i in {*self.points().values()} if standing.get(i) != self.sources[i])

    def save(self, key: tuple[str, str], answer: str, *, saved: bool) -> None:
        """Note an answer that was given; one that was not saved may stand or not."""
        old = set() if saved else self.answers.get(key, {""})
        self.answers[key] = {answer, *old}

    def check(self, what: str, standing: Mapping[str, Stand]) -> None:
        """Check that the audit and its answers stand.

        Args:
            what: command that was the last one; only ``audit`` draws.
            standing: results that stand, by id.
        """
        paths = [self.out / "audit" / name for name in DRAWN]
        if self.drawn or paths[0].exists():
            found = {path.name: path.read_bytes() for path in paths}
            if not self.drawn:
                assert what == "audit", f"{what} drew an audit"
                names = {one["slide_id"] for one in json.loads(found["design.json"])["slides"]}
                self.sources = {name: standing[name] for name in names}
            assert self.drawn in ({}, found), f"{what} changed the audit"
            self.drawn = found
        stand = self._stand()
        assert stand.keys() <= self.answers.keys(), f"{what} made an answer"
        for key, may in self.answers.items():
            assert stand.get(key, "") in may, f"{what} lost the answer of {key}"
            self.answers[key] = {stand.get(key, "")}

    def _stand(self) -> dict[tuple[str, str], str]:
        path = self.out / "audit" / "answers.csv"
        lines = path.read_text().splitlines() if path.exists() else []
        return {(row["point_id"], row["reader"]): row["answer"] for row in csv.DictReader(lines)}
