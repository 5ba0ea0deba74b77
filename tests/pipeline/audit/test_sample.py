"""Point sample of a cohort."""

import numpy as np

from noctile.pipeline.audit.sample import UNREADABLE, UNSURE, AuditFrame, AuditSample, part_of


def test_answers_without_a_class_are_no_numbers_of_classes():
    assert UNSURE < 0
    assert UNREADABLE < 0
    assert UNSURE != UNREADABLE


def test_a_part_of_a_frame_has_its_slides_in_the_wanted_order_and_their_points():
    """Slides 2 and 0 of three; slide 1 goes with its point."""
    area, probability = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.5, 0.6, 0.7])
    frame = AuditFrame(np.array([7, 8, 9]), np.array([0, 1, 0]), area, probability)
    numbers = np.array([0, 1, 2, 2])
    sample = AuditSample(numbers, np.array([0, 1, 1, 0]), numbers - 1, numbers + 0.5)
    of_slides, of_points = part_of(frame, sample, np.array([2, 0]))
    assert of_slides.patients.tolist() == [9, 7]
    assert of_slides.groups.tolist() == [0, 0]
    assert of_slides.area_mm2.tolist() == [[5, 6], [1, 2]]
    assert of_slides.probability.tolist() == [0.7, 0.5]
    assert of_points.slides.tolist() == [1, 0, 0]
    assert of_points.strata.tolist() == [0, 1, 0]
    assert of_points.answers.tolist() == [-1, 1, 1]
    assert of_points.weights_mm2.tolist() == [0.5, 2.5, 2.5]
