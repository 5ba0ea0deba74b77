"""Conventions of QuPath."""

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.qupath import classification, level0_scale, properties


def test_the_scale_leads_from_the_label_map_to_level_0():
    frame = Frame(Extent(100, 200), 0.5, 0.75)
    assert level0_scale(frame, 0.25, 0.25) == (2.0, 3.0)


def test_a_class_has_a_colour_of_three_whole_numbers():
    assert classification("tumor", (200, 0, 1)) == {"name": "tumor", "color": [200, 0, 1]}


def test_properties_stand_where_qupath_and_tiaviz_read_them():
    assert properties("tumor", (200, 0, 0), object_type="detection", locked=True) == {
        "objectType": "detection",
        "isLocked": True,
        "classification": {"name": "tumor", "color": [200, 0, 0]},
        "type": "tumor",
    }


def test_measurements_and_metadata_are_left_out_if_there_are_none():
    about = properties("a", (0, 0, 0), measurements={"Area mm^2": 0.5}, metadata={"by": "x"})
    assert about["measurements"] == {"Area mm^2": 0.5}
    assert about["metadata"] == {"by": "x"}
    assert not {"measurements", "metadata"} & properties("a", (0, 0, 0)).keys()
