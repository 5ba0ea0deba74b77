"""Schedule of a run: a state machine that names the next step, given the outcomes so far.

It is pure: it knows no files, no engine and no clock.

::

    waiting -> prepare -> segment (every block) -> finish -> done
                  |            |                     |
                  +------------+---------------------+--> failed   (blocks that wait are dropped)

A bounded number of slides is in flight, and the oldest comes first. Slides therefore finish one
after another, and the memory that a run needs does not grow with the archive.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from noctile.workflows.jobs.steps import Step


@dataclass(slots=True)
class _Slide:
    """State of a slide in flight.

    Attributes:
        blocks: (row, col) of the blocks that no worker has.
        running: number of steps under way; a slide begins with its ``prepare``.
        prepared: True once ``prepare`` has ended well.
        failed: True once a step has failed.
        again: True if the slide begins again when its steps under way have ended.
        finishing: True once ``finish`` has begun.
    """

    blocks: deque[tuple[int, int]] = field(default_factory=deque)
    running: int = 1
    prepared: bool = False
    failed: bool = False
    again: bool = False
    finishing: bool = False

    @property
    def ready_to_finish(self) -> bool:
        """True if all blocks are done and ``finish`` has not begun."""
        busy = self.blocks or self.running
        return self.prepared and not (self.failed or self.finishing or busy)


class Schedule:
    """Hands out steps, and is told how they ended.

    Args:
        slide_ids: ids in the order in which the slides begin; `add` appends to them.
        ahead: number of slides that may be in preparation, or have blocks that no worker has,
            before blocks come first.
        in_flight: number of slides that may be begun and not ended. It must be larger than the
            number of jobs at once: slides that hang in their preparation would keep all others from
            beginning.
    """

    def __init__(self, slide_ids: Iterable[str], *, ahead: int = 2, in_flight: int = 8) -> None:
        self._waiting = deque(slide_ids)
        self._ahead, self._in_flight = ahead, max(in_flight, ahead)
        self._slides: dict[str, _Slide] = {}  # in flight, oldest first

    def add(self, slide_id: str) -> None:
        """Append a slide, which begins after all others."""
        self._waiting.append(slide_id)

    def next_step(self) -> Step | None:
        """Return the step to start now; None if none can start before another one has ended."""
        for slide_id, slide in self._slides.items():
            if slide.ready_to_finish:
                slide.finishing, slide.running = True, 1
                return Step("finish", slide_id)
        if self._n_ahead < self._ahead and (step := self._begin()):
            return step
        for slide_id, slide in self._slides.items():
            if slide.blocks:
                slide.running += 1
                return Step("segment", slide_id, slide.blocks.popleft())
        return self._begin()

    def prepared(
        self, slide_id: str, blocks: Iterable[tuple[int, int]], *, finished: bool = False
    ) -> None:
        """Note that ``prepare`` ended well.

        Args:
            slide_id: id of the slide.
            blocks: (row, col) of the blocks to do, in their order.
            finished: True if nothing is to do; the slide leaves the schedule.
        """
        slide = self._slides[slide_id]
        slide.running -= 1
        slide.prepared = True
        slide.blocks.extend(blocks)
        if finished:
            del self._slides[slide_id]

    def segmented(self, slide_id: str) -> None:
        """Note that ``segment`` of one block ended well."""
        self._slides[slide_id].running -= 1
        self._drop_if_over(slide_id)

    def finished(self, slide_id: str) -> None:
        """Note that ``finish`` ended well: the slide is done."""
        del self._slides[slide_id]

    def failed(self, slide_id: str) -> bool:
        """Note that a step failed: the slide fails, and its waiting blocks are dropped.

        Returns:
            False if the slide had failed before.
        """
        slide = self._slides[slide_id]
        first, slide.failed = not slide.failed, True
        slide.blocks.clear()
        slide.running -= 1
        self._drop_if_over(slide_id)
        return first

    def begin_again(self, slide_id: str) -> None:
        """Note that a step failed, and that its slide begins again after all others.

        Its blocks that wait are dropped, and the outcomes of its steps under way do not count.
        """
        self._slides[slide_id].again = True
        self.failed(slide_id)

    def begins_again(self, slide_id: str) -> bool:
        """Tell if a slide waits for its steps under way, to begin again."""
        return slide_id in self._slides and self._slides[slide_id].again

    def _begin(self) -> Step | None:
        if not self._waiting or len(self._slides) >= self._in_flight:
            return None
        slide_id = self._waiting.popleft()
        self._slides[slide_id] = _Slide()
        return Step("prepare", slide_id)

    @property
    def _n_ahead(self) -> int:
        return sum(not slide.prepared or bool(slide.blocks) for slide in self._slides.values())

    def _drop_if_over(self, slide_id: str) -> None:
        slide = self._slides[slide_id]
        if slide.failed and not slide.running:
            del self._slides[slide_id]
            if slide.again:
                self.add(slide_id)
