"""Steps that met an error of a disk or a network: each is tried again after pauses."""

import time
from dataclasses import dataclass
from math import inf

from noctile.workflows.engines.base import StopSignal
from noctile.workflows.jobs.steps import Step

PAUSES_S = (2.0, 8.0, 20.0)
"""Pauses before the further attempts of a step (s). A file server that changes over to its spare
takes seconds."""

_CHECK_S = 0.2
"""Time between two checks of the stop signal during a pause (s)."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Step that waits for its next attempt.

    Attributes:
        step: the step.
        due_s: time of the attempt (s, `time.monotonic`).
    """

    step: Step
    due_s: float


class Retries:
    """Further attempts of steps that met passing errors.

    Meanwhile the run goes on with other steps.
    """

    def __init__(self) -> None:
        self._errors_s: dict[Step, list[float]] = {}  # times of errors (s, `time.monotonic`)
        self._waiting: list[_Waiting] = []

    def again(self, step: Step) -> bool:
        """Note a passing error, and tell if the step is tried again."""
        now, times = time.monotonic(), self._errors_s.setdefault(step, [])
        times.append(now)
        if len(times) > len(PAUSES_S):
            return False
        self._waiting.append(_Waiting(step, now + PAUSES_S[len(times) - 1]))
        return True

    def ended_well(self, step: Step) -> None:
        """Forget the errors of a step."""
        self._errors_s.pop(step, None)

    def troubled_beside(self, step: Step) -> set[str]:
        """Return the other slides that met errors since the first error of a step."""
        since = min(self._errors_s.get(step, [inf]))
        met = {other.slide_id for other, times in self._errors_s.items() if times[-1] >= since}
        return met - {step.slide_id}

    def next_step(self) -> Step | None:
        """Return a step whose pause is over; None if there is none."""
        now = time.monotonic()
        due = next((one for one in self._waiting if one.due_s <= now), None)
        if due is None:
            return None
        self._waiting.remove(due)
        return due.step

    def wait(self, stop: StopSignal) -> Step | None:
        """Wait for the next step; None if no step waits or the run is stopped."""
        while self._waiting and not stop.asked():
            if step := self.next_step():
                return step
            time.sleep(_CHECK_S)
        return None
