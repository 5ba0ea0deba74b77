"""Measurement of the speed of a worker."""

from noctile.workflows.jobs.messages import SpeedJob
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.speed import measure_speed


def test_tiles_of_a_planned_slide_are_predicted_until_the_time_is_over(job, run, entry, staged):
    prepare_slide(job("prepare"))
    tiles, seconds = measure_speed(SpeedJob("0/a", entry, run, staged, 0.1))
    assert tiles > 0
    assert seconds > 0.1
    assert not staged.blocks.exists()
