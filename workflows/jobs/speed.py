"""Measurement of how fast this process reads and predicts tiles of a planned slide."""

import time
from itertools import cycle, islice

import numpy as np

from noctile.pipeline.normalize import predictor_for_slide
from noctile.pipeline.segment import read_tiles
from noctile.pipeline.slides.open import open_slide
from noctile.workflows.jobs.messages import SpeedJob
from noctile.workflows.jobs.worker import predictor, read_plan


def measure_speed(job: SpeedJob) -> tuple[int, float]:
    """Read and predict tiles of the slide's middle block until the time is over.

    Returns:
        the number of tiles, and the time that they took (s).
    """
    run, entry = job.run, job.entry
    plan, _, stain = read_plan(job.folder)
    predict = predictor_for_slide(predictor(run), stain)
    batch_size = run.resources.batch_size or predict.batch_size
    middle = plan.blocks[len(plan.blocks) // 2].tiles
    reader = open_slide(entry.path, slide_id=entry.slide_id, mpp=entry.mpp, bgr=entry.bgr)
    n, start = 0, 0.0
    try:
        tiles = read_tiles(reader, plan, cycle(middle))
        while batch := list(islice(tiles, batch_size)):
            float(predict(np.stack([pixels for _, pixels in batch]))[0, 0, 0, 0])  # waits for a GPU
            if not start:  # the first batch warms up
                start = time.perf_counter()
                continue
            n += len(batch)
            if time.perf_counter() - start > job.seconds:
                break
    finally:
        reader.close()
    return n, time.perf_counter() - start
