"""Table of regions of interest."""

from pathlib import Path

import pyarrow as pa
import pytest

from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.columns import REGION
from noctile.pipeline.errors import StoreError
from noctile.pipeline.region_table import are_confined, region_table

A = {
    "region": "A",
    "region_class": None,
    "region_area_mm2": 2.0,
    "tissue_area_mm2": 1.0,
    "tumor_area_mm2": 0.25,
    "tumor_fraction_of_tissue": 0.25,
    "class_area_mm2": {"tumor": 0.25, "stroma": 0.75},
}


def row(slide_id, *regions, **more):
    return SlideRow(slide_id, Path("x"), "done", summary={"regions": list(regions)}, **more)


def test_each_region_has_a_row_sorted_by_slide():
    rows = [row("b", A, patient_id="P", group="g"), row("a", A, A | {"region": "B"}), row("c")]
    rows.append(SlideRow("d", Path("x"), "failed"))
    found = region_table(rows, ["tumor", "stroma", "other"]).to_pylist()
    assert [(one["slide_id"], one["region"]) for one in found] == [
        ("a", "A"),
        ("a", "B"),
        ("b", "A"),
    ]
    last = found[-1]
    assert (last["patient_id"], last["group"], last["region_area_mm2"]) == ("P", "g", 2.0)
    assert (last["class_tumor_area_mm2"], last["class_stroma_fraction_of_tissue"]) == (0.25, 0.75)
    assert last["class_other_area_mm2"] is last["class_other_fraction_of_tissue"] is None


def test_without_tissue_shares_are_empty():
    none = A | {"tissue_area_mm2": 0.0, "class_area_mm2": {"tumor": 0.0}}
    (found,) = region_table([row("a", none)], ["tumor"]).to_pylist()
    assert found["class_tumor_fraction_of_tissue"] is None


def test_an_empty_table_has_all_columns_with_their_units():
    table = region_table([], ["tumor"])
    assert table.column_names[: len(REGION)] == [column.name for column in REGION]
    assert table.schema.field("region_area_mm2").metadata[b"unit"].decode() == "mm²"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"slide_id": ["a", "b"]}, False),
        ({"roi_area_mm2": [None, None]}, False),
        ({"roi_area_mm2": [None, 0.0]}, True),
    ],
)
def test_a_slide_with_regions_has_their_area(columns, expected):
    assert are_confined(pa.table(columns)) is expected


def test_values_of_wrong_types_are_named():
    with pytest.raises(StoreError, match="regions of wrong types"):
        region_table([row("a", A | {"region_area_mm2": "much"})], [])
