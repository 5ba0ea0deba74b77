"""Steps of a slide: prepare it, segment each of its blocks, finish it, export it."""

from dataclasses import dataclass
from typing import Literal

StepKind = Literal["prepare", "segment", "finish", "export"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one slide.

    Attributes:
        kind: kind of work.
        slide_id: id of the slide.
        block: (row, col) of the block for ``segment``, else None.
    """

    kind: StepKind
    slide_id: str
    block: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """Name of the step, unique in a run."""
        block = f"/{self.block[0]}/{self.block[1]}" if self.block else ""
        return f"{self.kind}/{self.slide_id}{block}"
