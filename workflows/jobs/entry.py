"""Functions that an engine runs in a worker process; their code is imported at the first call.

The process of the run imports this module, and none of the libraries that jobs need.
"""

from typing import TYPE_CHECKING, Any

from noctile.workflows.jobs.messages import RunContext, SpeedJob, StepJob

if TYPE_CHECKING:
    from noctile.pipeline.models.predictor import Predictor

JOB_MODULES = (
    "noctile.workflows.jobs.prepare",
    "noctile.workflows.jobs.segment_block",
    "noctile.workflows.jobs.finish",
)
"""Modules that a worker imports for its jobs."""


def do(job: StepJob) -> Any:
    """Do one step: prepare a slide, segment a block, finish a slide, or export it.

    Returns:
        `Prepared` for ``prepare``, the number of tiles for ``segment``, None for ``finish``, a
        message about each file that could not be written for ``export``.

    Raises:
        UsageError: if the model was loaded ahead and is broken, so that no slide can be done.
    """
    from noctile.workflows.jobs.worker import check_model  # noqa: PLC0415 - see above

    check_model(job.run)
    match job.step.kind:
        case "prepare":
            from noctile.workflows.jobs.prepare import prepare_slide  # noqa: PLC0415 - see above

            return prepare_slide(job)
        case "segment":
            from noctile.workflows.jobs.segment_block import segment_step  # noqa: PLC0415

            return segment_step(job)
        case "finish":
            from noctile.workflows.jobs.finish import finish_slide  # noqa: PLC0415

            return finish_slide(job)
        case "export":
            from noctile.workflows.jobs.export_slide import export_step  # noqa: PLC0415

            return export_step(job)


def measure_speed(job: SpeedJob) -> tuple[int, float]:
    """See `noctile.workflows.jobs.speed.measure_speed`."""
    from noctile.workflows.jobs import speed  # noqa: PLC0415 - see above

    return speed.measure_speed(job)


def load_ahead(run: RunContext) -> None:
    """See `noctile.workflows.jobs.worker.load_ahead`."""
    from noctile.workflows.jobs import worker  # noqa: PLC0415 - see above

    worker.load_ahead(run)


def ready_predictor(run: RunContext) -> "Predictor":
    """See `noctile.workflows.jobs.worker.ready_predictor`."""
    from noctile.workflows.jobs import worker  # noqa: PLC0415 - see above

    return worker.ready_predictor(run)
