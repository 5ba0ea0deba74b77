"""What one task is told, and what the run learns from it; `noctile.workflows.jobs.entry` does it,
wherever that is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.load import Backend
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.results.layout import SLIDES, STAGING, SlideFolder
from noctile.workflows.run.schedule import Step
from noctile.workflows.settings import RunSettings, short_hash


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all jobs of a run share: names and numbers.

    Attributes:
        out: the output folder.
        model: the model's folder.
        card: what the model says of itself; its sha256 was checked, and workers check it again.
        settings: of the run.
        device: where the model runs.
        backend: what computes its network.
        threads: torch threads in a process.
        processes_per_gpu: processes that share a GPU.
        pixels_key: hash of all that a mask depends on beside its slide.
        servers: address of each GPU's inference server; empty where each process computes itself.
    """

    out: str
    model: str
    card: ModelCard
    settings: RunSettings
    device: str
    backend: Backend
    threads: int
    processes_per_gpu: int
    pixels_key: str
    servers: Mapping[str, str] = field(default_factory=dict)

    def folder(self, slide_id: str) -> SlideFolder:
        """Folder of a slide's result once it is done."""
        return SlideFolder(Path(self.out) / SLIDES / slide_id)

    def staging(self, slide_id: str) -> SlideFolder:
        """Folder in which a slide's next result is made."""
        return SlideFolder(Path(self.out) / STAGING / slide_id)

    def under_way(self, slide_id: str) -> SlideFolder:
        """Folder of a slide that is prepared and not done.

        It is staging, or the result's own folder if all blocks are done and only a measured file
        has gone.
        """
        staged = self.staging(slide_id)
        return staged if staged.plan.exists() else self.folder(slide_id)

    def key(self, fingerprint: str, modified: str, mpp: tuple[float, float] | None) -> str:
        """Content key of a slide in this run.

        Args:
            fingerprint: of its file.
            modified: when that was written (`noctile.pipeline.slides.fingerprint.mtime_fingerprint`).
            mpp: pixel size that overrides the file's (um), or None.
        """
        return short_hash([fingerprint, modified, mpp, self.pixels_key])


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the run learns from ``prepare``.

    Attributes:
        key: content key of the slide under this model and these settings.
        fresh: whether it was planned from nothing, so that no block of an earlier run counts.
        finished: whether the slide is complete already.
        blocks: (row, col) of all blocks with tissue.
        predictions: of all blocks together.
        tiles_of: number of predictions of each block.
        fingerprint: of the slide's content.
    """

    key: str
    fresh: bool
    finished: bool
    blocks: tuple[tuple[int, int], ...]
    tiles_of: tuple[int, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StepJob:
    """A step of the schedule with all that it takes to do it anywhere.

    Attributes:
        step: what is done.
        entry: to which slide.
        run: in which run.
        limit_s: how long it may take (s).
    """

    step: Step
    entry: SlideEntry
    run: RunContext
    limit_s: float = inf

    @property
    def key(self) -> str:
        """The step's."""
        return self.step.key

    @property
    def group(self) -> str:
        """The slide: its steps fail together."""
        return self.step.slide_id
