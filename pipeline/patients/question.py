"""Question to a cohort: the column that is asked for, survival, and the values of each patient."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from noctile.pipeline.columns import BOOLEAN, DATE, INTEGER, NUMBER
from noctile.pipeline.errors import UsageError
from noctile.pipeline.manifest_types import column_type, parse_cell
from noctile.pipeline.patients.join import Joined, Patient
from noctile.pipeline.patients.measures import MEASURES
from noctile.pipeline.wrong_values import did_you_mean

MAX_GROUPS: Final = 20
"""Most groups that a question compares; a text with more values is no group."""

MAX_NUMBER_GROUPS: Final = 6
"""Whole numbers with at most this many different values are groups, such as grades."""

_EVENTS: Final = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_CODED: Final = re.compile(r"([01])\s*:.*")
"""Event with its meaning, ``1:DECEASED``, as cBioPortal writes it."""

ByKind = Literal["none", "groups", "number"]


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut of a measure that was stated before.

    Attributes:
        measure: name of the measure.
        value: patients at or above it are one group, those below it the other.
    """

    measure: str
    value: float


@dataclass(frozen=True, slots=True)
class Question:
    """Question to a cohort.

    Attributes:
        by: header of the column that is compared; "" for none.
        kind: kind of that column: none; groups; number, which is correlated.
        time: header of the column with survival times; "" for none.
        event: header of the column with events; "" for none.
        cuts: cuts that were stated before.
    """

    by: str
    kind: ByKind
    time: str = ""
    event: str = ""
    cuts: tuple[Cut, ...] = ()

    @property
    def survival(self) -> bool:
        """True if survival is asked for."""
        return bool(self.time)


def parse_cut(text: str) -> Cut:
    """Parse ``MEASURE=VALUE``.

    Raises:
        UsageError: if it is no cut of a measure.
    """
    name, sign, value = text.partition("=")
    names = [measure.name for measure in MEASURES]
    if name not in names:
        raise UsageError(
            f"--cut {text!r:.80}: there is no measure {name!r:.60}{did_you_mean(name, names)}; "
            f"measures: {', '.join(names)}"
        )
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not sign or not math.isfinite(number):
        raise UsageError(f"--cut {text!r:.80} must be MEASURE=VALUE, such as {names[1]}=0.5")
    return Cut(name, number)


def make_question(
    joined: Joined,
    by: str | None,
    time: str | None,
    event: str | None,
    cuts: Iterable[Cut] = (),
) -> Question:
    """Check a question against the columns that there are.

    Without ``by``, the only other column of the clinical table is taken, or ``group`` of a manifest
    if there is no clinical table.

    Raises:
        UsageError: if a column is missing, cannot be compared, or has to be named.
    """
    if (time is None) != (event is None):
        raise UsageError("--time and --event belong together; name both columns")
    for option, name in (("--by", by), ("--time", time), ("--event", event)):
        if name is not None and name not in joined.columns:
            raise UsageError(
                f"{option} {name!r:.80}: no clinical table and no manifest has this column"
                f"{did_you_mean(name, joined.columns)}; columns: {_listed(joined.columns)}"
            )
    if by is None:
        by = _only_column(joined, {time, event})
    kind = _kind(by, _cells(joined, by)) if by else "none"
    question = Question(by, kind, time or "", event or "", tuple(cuts))
    if question.survival:
        _check_survival(joined, question)
    elif question.cuts:
        raise UsageError("--cut needs --time and --event: it divides patients for their survival")
    return question


def by_value(question: Question, patient: Patient) -> str:
    """Return the group of a patient, or the text of its number; "" if it has none or several."""
    cells = patient.values.get(question.by, ())
    return cells[0] if len(cells) == 1 else ""


def number_of(cell: str) -> float:
    """Return a number of a column of numbers; NaN for an empty cell."""
    return math.nan if not cell else float(parse_cell(cell, NUMBER))


def survival_of(question: Question, patient: Patient) -> tuple[float, float]:
    """Return time and event (0 or 1) of a patient; NaN where the table has no usable one."""
    time, event = (patient.values.get(name, ()) for name in (question.time, question.event))
    t = number_of(time[0]) if len(time) == 1 else math.nan
    e = _event(event[0]) if len(event) == 1 else math.nan
    return (t if t >= 0 else math.nan), e


def sorted_groups(names: Iterable[str]) -> list[str]:
    """Sort groups: numbers by value, then texts."""
    return sorted(set(names), key=lambda name: (_number_key(name), name.casefold(), name))


def _number_key(name: str) -> float:
    try:
        return float(name.replace(",", "."))
    except ValueError:
        return math.inf


def _only_column(joined: Joined, used: set[str | None]) -> str:
    if joined.clinical is None:
        return "group" if "group" in joined.columns else ""
    others = [name for name in joined.clinical.columns if name not in used]
    if len(others) == 1:
        return others[0]
    if used != {None}:
        return ""  # survival alone
    raise UsageError(
        f"{joined.clinical.file} has {len(others)} columns that can be compared: "
        f"{_listed(others)}. Name one with --by"
        if others
        else f"{joined.clinical.file} has no column beside the ids; add one with the groups"
    )


def _cells(joined: Joined, name: str) -> list[str]:
    return [cell for patient in joined.patients for cell in patient.values.get(name, ())]


def _kind(name: str, cells: Sequence[str]) -> ByKind:
    different, kind = set(cells), column_type(name, cells)
    if not different:
        raise UsageError(
            f"--by {name!r:.80}: no patient with slides has a value. Check that the ids of the "
            "clinical table are those of the results"
        )
    if kind == NUMBER or (kind == INTEGER and len(different) > MAX_NUMBER_GROUPS):
        return "number"
    if kind == DATE or (kind != BOOLEAN and len(different) > MAX_GROUPS):
        what = "holds dates" if kind == DATE else f"has {len(different)} different texts"
        raise UsageError(
            f"--by {name!r:.80} {what}; name a column with numbers, or with at most {MAX_GROUPS} "
            "groups"
        )
    return "groups"


def _check_survival(joined: Joined, question: Question) -> None:
    times, events = _cells(joined, question.time), _cells(joined, question.event)
    if column_type(question.time, times) not in (INTEGER, NUMBER):
        raise UsageError(f"--time {question.time!r:.80} must hold numbers, such as months")
    wrong = sorted({cell for cell in events if math.isnan(_event(cell))})
    if wrong or not events:
        raise UsageError(
            f"--event {question.event!r:.80} must hold 1 (or true) for an event and 0 (or false) "
            f"for none; found {_listed(wrong)}"
        )


def _event(cell: str) -> float:
    coded = _CODED.fullmatch(cell)
    return _EVENTS.get(coded[1] if coded else cell.casefold(), math.nan)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{name:.60}" for name in names[:20])
    return (f"{shown}, ..." if len(names) > 20 else shown) or "none"
