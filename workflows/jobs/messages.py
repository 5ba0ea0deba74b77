"""Messages between the run and its workers: plain data, without the code that acts on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.slides.discover import SlideEntry
from noctile.workflows.jobs.steps import Step
from noctile.workflows.resources import Resources
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.settings import RunSettings, short_hash


@dataclass(frozen=True, slots=True)
class RunContext:
    """Everything that all jobs of a run share.

    Attributes:
        results: folder of results.
        model: path of the model's folder.
        card: card of the model; its sha256 was checked, and workers check it again.
        settings: settings of the run.
        resources: device, workers, threads and memory.
        pixels_key: hash of everything that a mask depends on beside its slide.
        run: run id, the name of the run's record.
        planning: True for ``noctile plan``, which predicts nothing and keeps its plans apart.
        servers: address of each GPU's inference server, by the name of the GPU; empty if each
            worker computes itself.
    """

    results: ResultsFolder
    model: str
    card: ModelCard
    settings: RunSettings
    resources: Resources
    pixels_key: str
    run: str = ""
    planning: bool = False
    servers: Mapping[str, str] = field(default_factory=dict)

    def slide_key(
        self,
        fingerprint: str,
        mpp: tuple[float, float] | None,
        bgr: bool | None = None,
        confined: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Return the content key of a slide in this run.

        Args:
            fingerprint: hash of samples of the slide's file.
            mpp: pixel size that overrides the one in the file (um; y, x), or None.
            bgr: channel order that the manifest states, see `SlideEntry`, or None.
            confined: hash of each file that confines the analysis, see `Confinement.hashes`.
        """
        given: list[object] = [] if bgr is None else [bgr]
        given += [dict(confined)] if confined else []
        return short_hash([fingerprint, mpp, *given, self.pixels_key])


@dataclass(frozen=True, slots=True)
class Prepared:
    """Value of the step ``prepare``.

    Attributes:
        key: content key of the slide under the model and the settings.
        fresh: True if the slide was planned from nothing; no earlier block of it is valid then.
        finished: True if the slide's result is complete already.
        blocks: (row, col) of each block with tissue.
        tiles_of: number of predictions of each block.
        fingerprint: hash of samples of the slide's file.
        folder: folder that holds the slide's plan.
        block_faults: fault in the files of each block that is not written whole, by (row, col);
            empty if ``fresh``.
        damaged: fault in the files of an earlier result or plan, which are made again; "" if there
            is none.
    """

    key: str
    fresh: bool
    finished: bool
    blocks: tuple[tuple[int, int], ...]
    tiles_of: tuple[int, ...]
    fingerprint: str
    folder: SlideFolder
    block_faults: Mapping[tuple[int, int], str] = field(default_factory=dict)
    damaged: str = ""


@dataclass(frozen=True, slots=True)
class StepJob:
    """A step with everything that a worker needs for it.

    Attributes:
        step: step to do.
        entry: slide of the step.
        run: run that the step belongs to.
        limit_s: longest time that it may take (s).
        stem: name, without suffix, of exported files; "" for other steps.
    """

    step: Step
    entry: SlideEntry
    run: RunContext
    limit_s: float = inf
    stem: str = ""

    @property
    def key(self) -> str:
        """Name of the job, unique in a run."""
        return self.step.key

    @property
    def group(self) -> str:
        """Id of the slide: the steps of a slide fail together."""
        return self.step.slide_id


@dataclass(frozen=True, slots=True)
class SpeedJob:
    """Measurement of the speed of one worker on real tiles.

    Attributes:
        key: name of the job, unique among the measurements of a preflight.
        entry: slide whose tiles are predicted.
        run: run for which the speed is measured.
        folder: folder that holds the slide's plan.
        seconds: duration of the measurement (s), after the model is loaded and warm.
    """

    key: str
    entry: SlideEntry
    run: RunContext
    folder: SlideFolder
    seconds: float

    @property
    def group(self) -> str:
        """Name of the job: measurements fail one by one."""
        return self.key

    @property
    def limit_s(self) -> float:
        """Longest time that it may take (s)."""
        return 60.0 + self.seconds
