"""The night's state machine: what may run next, given what has come back. Pure: no I/O, no Dask, no
clock.

::

    waiting -> prepare -> segment (every block) -> finish -> done
                  |            |                     |
                  +------------+---------------------+--> failed   (its blocks that wait are
                  dropped)

A bounded number of slides is in flight and the oldest comes first, so that slides finish one after
another and the memory of the machine does not grow with the archive.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

StepKind = Literal["prepare", "segment", "finish"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do for one slide; ``block`` is its (row, col) for ``segment``, else None."""

    kind: StepKind
    slide_id: str
    block: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """Unique in a run."""
        return f"{self.kind}/{self.slide_id}" + (
            f"/{self.block[0]}/{self.block[1]}" if self.block else ""
        )


@dataclass(slots=True)
class _Slide:
    blocks: deque[tuple[int, int]] = field(default_factory=deque)
    running: int = 1  # born with its 'prepare' under way
    prepared: bool = False
    failed: bool = False
    finishing: bool = False


class Schedule:
    """Hands out steps and takes back how they ended.

    Args:
        slide_ids: in the order in which they are started; `add` appends to them.
        ahead: how many slides may be in preparation, or have blocks that nobody has taken, before
            blocks come first.
        in_flight: how many slides may be begun and not ended; more than can run at once, or slides
            that hang in their preparation would keep all others from beginning.
    """

    def __init__(self, slide_ids: Iterable[str], *, ahead: int = 2, in_flight: int = 8) -> None:
        self._waiting = deque(slide_ids)
        self._ahead, self._in_flight = ahead, max(in_flight, ahead)
        self._slides: dict[str, _Slide] = {}  # in flight, oldest first

    def add(self, slide_id: str) -> None:
        """One more slide, to be started after all others."""
        self._waiting.append(slide_id)

    def next_step(self) -> Step | None:
        """What to start now; None if nothing can start before something that runs has ended (or at
        all).
        """
        for slide_id, slide in self._slides.items():
            if slide.prepared and not (
                slide.failed or slide.finishing or slide.blocks or slide.running
            ):
                slide.finishing, slide.running = True, 1
                return Step("finish", slide_id)
        if self._unspent < self._ahead and (step := self._begin()):
            return step
        for slide_id, slide in self._slides.items():
            if slide.blocks:
                slide.running += 1
                return Step("segment", slide_id, slide.blocks.popleft())
        return self._begin()

    def prepared(
        self, slide_id: str, blocks: Iterable[tuple[int, int]], *, finished: bool = False
    ) -> None:
        """``prepare`` ended well: these blocks are to do; or the slide is already complete."""
        slide = self._slides[slide_id]
        slide.running -= 1
        slide.prepared = True
        slide.blocks.extend(blocks)
        if finished:
            del self._slides[slide_id]

    def segmented(self, slide_id: str) -> None:
        """``segment`` of one block ended well."""
        self._slides[slide_id].running -= 1
        self._drop_if_over(slide_id)

    def finished(self, slide_id: str) -> None:
        """``finish`` ended well: the slide is done."""
        del self._slides[slide_id]

    def failed(self, slide_id: str) -> bool:
        """A step ended badly: the slide fails, its waiting blocks are dropped. Whether it had not
        failed before.
        """
        slide = self._slides[slide_id]
        first, slide.failed = not slide.failed, True
        slide.blocks.clear()
        slide.running -= 1
        self._drop_if_over(slide_id)
        return first

    def _begin(self) -> Step | None:
        if not self._waiting or len(self._slides) >= self._in_flight:
            return None
        slide_id = self._waiting.popleft()
        self._slides[slide_id] = _Slide()
        return Step("prepare", slide_id)

    @property
    def _unspent(self) -> int:
        return sum(not slide.prepared or bool(slide.blocks) for slide in self._slides.values())

    def _drop_if_over(self, slide_id: str) -> None:
        slide = self._slides[slide_id]
        if slide.failed and not slide.running:
            del self._slides[slide_id]
