"""The second step of a slide, once for each block: segment the block and write its shard."""

from noctile.pipeline.errors import SlideError, StorageError
from noctile.pipeline.normalize import predictor_for_slide
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slides.channel_order import BGR_FLAG
from noctile.workflows.jobs.messages import StepJob
from noctile.workflows.jobs.unchanged import check_unchanged
from noctile.workflows.jobs.worker import OPEN_SLIDES, open_results, predictor
from noctile.workflows.results.blocks import write_block


def segment_step(job: StepJob) -> int:
    """Segment one block. Its files are on the disk when the step ends.

    Returns:
        the number of tiles of the block.

    Raises:
        SlideError: if the slide cannot be opened, or was changed since it was planned.
        StoreError: if a file of the slide's result cannot be read or written.
    """
    run, step = job.run, job.step
    folder = run.results.staged(step.slide_id)
    assert step.block is not None  # noqa: S101 - the schedule gives every 'segment' its block
    planned_ns = folder.plan.stat().st_mtime_ns
    plan, tissue, stain, store, slide_key = open_results(folder, planned_ns)
    block = plan.block(step.block)
    predict = predictor_for_slide(predictor(run), stain)
    batch_size = run.resources.batch_size or predict.batch_size
    try:
        reader = OPEN_SLIDES.get(job.entry, planned_ns, bgr=BGR_FLAG in tissue.flags)
        mask = segment_block(reader, plan, block, tissue, predict, batch_size)
    except StorageError:
        OPEN_SLIDES.drop(job.entry, planned_ns)
        raise
    except SlideError:
        check_unchanged(job, folder)
        raise
    write_block(folder, slide_key, block.key, mask, store)
    return len(block.tiles)
