"""Arrays of an audit, from a design and points that are given."""

import numpy as np
import pytest

from noctile.pipeline.audit.sample import UNSURE
from noctile.workflows.results.audit_arrays import (
    audit_data,
    frame_of,
    last_batch,
    point_counts,
    point_weights,
)
from noctile.workflows.results.audit_rows import AuditClass, AuditDesign, AuditPoint, AuditSlide


@pytest.fixture
def design():
    """Two patients of two groups, three slides, tumor and stroma."""
    classes = tuple(
        AuditClass(n, k, "tissue", (k, 0, 0)) for k, n in enumerate(("tumor", "stroma"), 1)
    )
    slides = tuple(
        AuditSlide(name, "key", patient, group, {"tumor": tumor, "stroma": 10 - tumor}, 1.0)
        for name, patient, group, tumor in (
            ("a", "P", "x", 2.0),
            ("b", "P", "x", 4.0),
            ("c", "Q", "y", 5.0),
        )
    )
    return AuditDesign(6, "arm", 0, 20.0, "2026-01-01T00:00:00Z", {}, classes, {}, slides)


@pytest.fixture
def points():
    where = [("a", "x", "tumor"), ("b", "x", "tumor"), ("b", "x", "stroma"), ("c", "y", "stroma")]
    return [
        AuditPoint(f"p{k}", slide, 0.0, 0.0, 0.0, 0.0, stratum, group, 1.0, batch=6 + k)
        for k, (slide, group, stratum) in enumerate(where)
    ]


def test_a_frame_numbers_patients_and_groups(design):
    frame, names = frame_of(design)
    assert names == (["P", "Q"], ["x", "y"])
    assert frame.patients.tolist() == frame.groups.tolist() == [0, 0, 1]
    assert frame.area_mm2.tolist() == [[2, 8], [4, 6], [5, 5]]


def test_weights_are_the_area_of_a_class_in_a_group_by_its_points(design, points):
    assert point_counts(design, points).tolist() == [[1, 0], [1, 1], [0, 1]]
    assert point_weights(design, points) == pytest.approx([3, 3, 14, 5])
    assert last_batch(points) == 9


def test_a_sample_has_answers_by_number(design, points):
    data = audit_data(design, points[:3], ["stroma", "tumor", "unsure"], ["c"])
    assert data.sample.answers.tolist() == [1, 0, UNSURE]
    assert data.sample.slides.tolist() == [0, 1, 1]
    assert np.allclose(data.sample.weights_mm2, [3, 3, 14])
    assert (data.slides, data.classes, data.stale) == (["a", "b", "c"], ["tumor", "stroma"], ["c"])
