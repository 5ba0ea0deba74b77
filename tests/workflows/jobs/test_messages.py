"""Messages between the run and its workers."""

import pickle
from dataclasses import replace

from noctile.workflows.jobs.messages import SpeedJob


def test_a_job_travels_as_a_few_kilobytes_of_plain_data(job):
    sent = job("segment", (1, 2))
    data = pickle.dumps(sent)
    assert len(data) < 8192
    assert pickle.loads(data) == sent
    assert (sent.key, sent.group) == ("segment/a/1/2", "a")


def test_the_key_of_a_slide_depends_on_its_file_and_on_everything_that_pixels_depend_on(run):
    key = run.slide_key("content", None)
    others = [
        run.slide_key("other", None),
        run.slide_key("content", (0.5, 0.5)),
        run.slide_key("content", None, bgr=True),
        run.slide_key("content", None, bgr=False),
        replace(run, pixels_key="other").slide_key("content", None),
        run.slide_key("content", None, confined={"roi_given": "1"}),
        run.slide_key("content", None, confined={"roi_given": "2"}),
        run.slide_key("content", None, confined={"tissue_mask_given": "1"}),
    ]
    assert len({key, *others}) == 9
    assert run.slide_key("content", None, bgr=None, confined={}) == key


def test_a_measurement_has_a_minute_more_than_it_predicts(run, entry, staged):
    assert SpeedJob("0/a", entry, run, staged, 3.0).limit_s == 63.0
