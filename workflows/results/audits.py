"""Files of an audit, in the folder ``audit`` of the results.

::

    audit/design.json     slides that the audit speaks for, and how points were drawn; never changed
    audit/points.csv      one row for each point; further points are added, and none is taken away
    audit/answers.csv     one row for each point and reader
    audit/history.jsonl   every answer that was ever given

Several processes may save at once, see `noctile.workflows.results.shared_files`. A file that is
damaged is never replaced.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from noctile.pipeline.csv_cells import read_csv
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.review import check_review
from noctile.pipeline.slides.fingerprint import file_state
from noctile.pipeline.untrusted import parse_json, printable, read_bytes
from noctile.workflows.results.audit_arrays import (
    AuditData,
    audit_data,
    last_batch,
    point_weights,
)
from noctile.workflows.results.audit_rows import (
    MOST_POINTS,
    SPECIAL_ANSWERS,
    AuditAnswer,
    AuditDesign,
    AuditPoint,
    agreed,
    answer_order,
    design_from_json,
    design_to_json,
    parse_answers,
    parse_points,
    rows_text,
)
from noctile.workflows.results.files import json_text
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.shared_files import (
    damage,
    locked,
    refuse_links,
    remember,
    replace_text,
    result_key,
    time_text,
)

MAX_BYTES, MAX_VALUES = 2**26, 2**22
"""Largest file of an audit (B), and most values in a design."""

_TOLERANCE = 1e-6
"""Relative difference between a weight and the design from which a point file is damaged."""


class Audits:
    """The audit of a folder of results.

    Args:
        results: the folder.
        now: gives the time of an answer.
    """

    def __init__(
        self, results: ResultsFolder, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._results, self._now = results, now
        self._design: tuple[object, AuditDesign] | None = None
        self._points: tuple[AuditDesign, object, list[AuditPoint]] | None = None

    def exists(self) -> bool:
        """Tell if an audit has been drawn.

        Raises:
            StoreError: if there are points or answers without a design.
        """
        if self._results.audit_design.exists():
            return True
        for path in (self._results.audit_answers, self._results.audit_history):
            if path.exists():
                raise StoreError(
                    f"{self._results.audit_design} is missing, and {path.name} is there; copy it "
                    f"back, or move {self._results.audit} away to draw a new audit"
                )
        return False

    def design(self) -> AuditDesign:
        """Return the design; the file is read again if it has changed.

        Raises:
            StoreError: if there is none, or the file is damaged.
        """
        path = self._results.audit_design
        refuse_links(self._results.audit, path)
        state = file_state(path)
        if self._design is None or self._design[0] != state:
            self._design = state, self._read_design(path)
        return self._design[1]

    def _read_design(self, path: Path) -> AuditDesign:
        try:
            return design_from_json(parse_json(read_bytes(path, MAX_BYTES), MAX_VALUES))
        except FileNotFoundError as error:
            where = self._results.path
            raise StoreError(f"{where} has no audit; `noctile audit {where}` draws one") from error
        except (OSError, ValueError) as error:
            raise damage(path, error) from error

    def points(self) -> list[AuditPoint]:
        """Return the points, sorted by name; the file is read again if it has changed.

        Raises:
            StoreError: if the file is damaged, or does not fit the design.
        """
        design, path = self.design(), self._results.audit_points
        refuse_links(path)
        state = file_state(path)
        if self._points is None or self._points[0] is not design or self._points[1] != state:
            self._points = design, state, self._read_points(path, design)
        return list(self._points[2])

    def _read_points(self, path: Path, design: AuditDesign) -> list[AuditPoint]:
        try:
            points = list(parse_points(read_csv(path, MAX_BYTES), design.points))
            _check_points(design, points)
        except FileNotFoundError as error:
            raise StoreError(
                f"{path} is missing; copy it back, or move {path.parent} away to draw a new audit"
            ) from error
        except (OSError, ValueError) as error:
            raise damage(path, error) from error
        return sorted(points, key=lambda point: point.point_id)

    def answers(self) -> list[AuditAnswer]:
        """Return the answers of all readers, sorted by point and reader.

        Raises:
            StoreError: if the file is damaged, or does not fit the design.
        """
        path, design = self._results.audit_answers, self.design()
        refuse_links(path)
        try:
            rows = sorted(parse_answers(read_csv(path, MAX_BYTES)), key=answer_order)
        except FileNotFoundError:
            rows = []
        except (OSError, ValueError) as error:
            raise damage(path, error) from error
        points = self._names()  # after the answers: a point may be added and answered meanwhile
        try:
            for row in rows:
                _check_answer(row.point_id, row.answer, points, design)
        except ValueError as error:
            raise damage(path, error) from error
        return rows

    def _names(self) -> set[str]:
        return {point.point_id for point in self.points()}

    def begin(self, draw: Callable[[], tuple[AuditDesign, Sequence[AuditPoint]]]) -> None:
        """Write design and points, unless another process has done so meanwhile.

        Args:
            draw: draws them.

        Raises:
            StoreError: if there are answers without a design, or the file system refuses.
            UsageError: if nothing can be drawn.
        """
        with self._locked():
            if self.exists():
                return
            design, points = draw()
            self._write_points(points)
            text = json_text(design_to_json(design))
            replace_text(self._results.audit_design, text, self._results.path)

    def extend(
        self, points: int, draw: Callable[[Sequence[AuditPoint]], Sequence[AuditPoint]]
    ) -> None:
        """Add points, unless as many have been asked for before.

        One file is replaced as a whole, so a kill leaves the old or the new points. Readers can
        save while points are drawn. If another process adds some meanwhile, they are drawn anew.

        Args:
            points: number of points that is asked for in total.
            draw: returns the points that are there and those of a new batch.

        Raises:
            StoreError: if a file is damaged, or the file system refuses.
            UsageError: if nothing can be drawn.
        """
        while last_batch(there := self.points()) < points:
            drawn = draw(there)
            with self._locked():
                if self.points() == there:
                    self._write_points(drawn)

    def _write_points(self, points: Sequence[AuditPoint]) -> None:
        text = rows_text(AuditPoint, points)
        replace_text(self._results.audit_points, text, self._results.path)

    def save(self, reader: str, answers: Mapping[str, str]) -> None:
        """Save answers of a reader; those of other readers stay. An earlier answer is replaced.

        Args:
            reader: name of the reader.
            answers: answer by the name of its point: a class, ``unsure`` or ``unreadable``.

        Raises:
            UsageError: if the reader's name, a point or an answer is none.
            StoreError: if a file is damaged, or the file system refuses.
        """
        check_review(reader, "", "")
        design, points = self.design(), self._names()
        time = time_text(self._now())
        rows = [AuditAnswer(point, reader, answer, time) for point, answer in answers.items()]
        try:
            for row in rows:
                _check_answer(row.point_id, row.answer, points, design)
        except ValueError as error:
            raise UsageError(str(error)) from error
        with self._locked():
            kept = {answer_order(row): row for row in self.answers()}
            remember(self._results.audit_history, [asdict(row) for row in rows])
            kept |= {answer_order(row): row for row in rows}
            text = rows_text(AuditAnswer, sorted(kept.values(), key=answer_order))
            replace_text(self._results.audit_answers, text, self._results.path)

    def stale(self, *, pointless: bool = False) -> list[str]:
        """Return the slides with points whose result has gone, or was made anew since.

        Args:
            pointless: True to return slides without points, too.

        Raises:
            StoreError: if a file is damaged.
        """
        keys = {slide.slide_id: slide.key for slide in self.design().slides}
        used = sorted(keys if pointless else {point.slide_id for point in self.points()})
        return [name for name in used if result_key(self._results.slide(name)) != keys[name]]

    def sample(self, reader: str | None = None) -> AuditData:
        """Return frame and answered points, as the estimators take them.

        Points of stale slides are left out. A point stands for the area of its stratum in its group
        by the number of answered points there: points are shown in random order, so those that
        are answered are a sample, too.

        Args:
            reader: name of a reader; None for the answer that most readers gave to each point,
                ``unsure`` if two are as frequent.

        Raises:
            UsageError: if there is no such reader.
            StoreError: if a file is damaged.
        """
        design, stale, given = self.design(), self.stale(pointless=True), dict[str, list[str]]()
        answers = self.answers()
        readers = {row.reader for row in answers}
        if reader is not None and reader not in readers:
            known = ", ".join(map(printable, sorted(readers))) or "none"
            raise UsageError(f"{printable(reader)} has answered no point; the readers are: {known}")
        for row in answers:
            if reader in (None, row.reader):
                given.setdefault(row.point_id, []).append(row.answer)
        gone = set(stale)
        points = [p for p in self.points() if p.point_id in given and p.slide_id not in gone]
        return audit_data(
            design, points, [agreed(given[point.point_id]) for point in points], stale
        )

    def _locked(self) -> AbstractContextManager[None]:
        results = self._results
        return locked(results.audit, results.audit_design, results.audit_points)


def _check_answer(point: str, answer: str, points: set[str], design: AuditDesign) -> None:
    """Check an answer.

    Raises:
        ValueError: if its point or its class is unknown.
    """
    if point not in points:
        raise ValueError(f"{printable(point)!r:.60} is no point of the audit")
    if answer not in SPECIAL_ANSWERS and answer not in design.class_names:
        allowed = ", ".join((*design.class_names, *SPECIAL_ANSWERS))
        raise ValueError(f"{printable(answer)!r:.60} is none of {allowed}")


def _check_points(design: AuditDesign, points: Sequence[AuditPoint]) -> None:
    """Check that points are those that were drawn with a design; their weights tell.

    Raises:
        ValueError: if they are not.
    """
    ids = {point.point_id for point in points}
    slides = {slide.slide_id: slide for slide in design.slides}
    if not points or len(ids) < len(points) or len(points) > MOST_POINTS:
        raise ValueError("it has no points, two of one name, or too many")
    if min(point.batch for point in points) != design.points:
        raise ValueError("its first batch is not that of design.json")
    for point in points:
        slide = slides.get(point.slide_id)
        if (
            slide is None
            or not slide.chosen
            or slide.group != point.group
            or point.stratum not in slide.area_mm2
        ):
            raise ValueError(f"point {point.point_id!r:.40} does not fit design.json")
    weights = point_weights(design, points)
    written = np.array([point.weight_mm2 for point in points])
    if not np.allclose(weights, written, rtol=_TOLERANCE, atol=0):
        raise ValueError("its points are not all that were drawn with design.json")
