"""Columns of the tables: name, type, unit and description of each, in one place.

Parquet files hold unit and description in the metadata of each field, ``columns.json`` holds them
for every program, and a test compares docs/results.md with them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

TEXT, INTEGER, NUMBER = pa.string(), pa.int64(), pa.float64()
BOOLEAN, DATE = pa.bool_(), pa.date32()
CATEGORY = pa.dictionary(pa.int32(), pa.string())
"""Type of text that many rows share, and of text that may be missing in all rows. pandas reads it
as a categorical column, and AnnData can write that (it cannot write a text column without text)."""
FLAGS = pa.list_(pa.string())

_TYPE_NAMES = {
    TEXT: "text",
    CATEGORY: "category",
    INTEGER: "integer",
    pa.int32(): "integer",
    NUMBER: "number",
    BOOLEAN: "boolean",
    DATE: "date",
    FLAGS: "list of text",
}
"""Name of each type in ``columns.json`` and in the documentation."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: name of the column.
        type: type of its cells in Parquet.
        description: meaning of the column, for a reader.
        unit: unit of its cells, ``0..1`` for a share; empty if they have none.
    """

    name: str
    type: pa.DataType
    description: str
    unit: str = ""

    @property
    def type_name(self) -> str:
        """Name of the type, for a reader."""
        return _TYPE_NAMES[self.type]

    @property
    def field(self) -> pa.Field:
        """Field of a Parquet schema, with unit and description in its metadata."""
        about = {"unit": self.unit, "description": self.description}
        return pa.field(self.name, self.type, metadata=about)


IDENTITY = (
    Column("slide_id", TEXT, "name of the slide in this folder"),
    Column("path", TEXT, "file of the slide"),
    Column("patient_id", CATEGORY, "patient, from the manifest"),
    Column("group", CATEGORY, "group, from the manifest"),
    Column(
        "status", CATEGORY, "done, failed, or skipped: the run was stopped before, or left it out"
    ),
    Column("reason", CATEGORY, "code of the reason why it is not done"),
    Column("message", CATEGORY, "text that says what happened and what to do"),
    Column("run", CATEGORY, "id of the run that made the row"),
)
"""Columns of the table of slides that are known without a result."""

FIGURES = (
    Column("tissue_area_mm2", NUMBER, "area of all pixels that were analysed", "mm²"),
    Column("tumor_area_mm2", NUMBER, "area of all classes with the role tumor", "mm²"),
    Column("tumor_fraction_of_tissue", NUMBER, "tumor_area_mm2 / tissue_area_mm2", "0..1"),
    Column(
        "tumor_foci",
        INTEGER,
        "connected tumor regions (8 neighbours) of at least 0.01 mm², counted at about 4 µm/px",
        "count",
    ),
    Column("largest_focus_mm2", NUMBER, "area of the largest of them; 0 if there is none", "mm²"),
    Column(
        "mean_confidence",
        NUMBER,
        "mean probability of the predicted class over the tissue",
        "0..1",
    ),
    Column(
        "unreadable_fraction",
        NUMBER,
        "tissue that could not be read / all tissue; behind the flag unreadable_tissue",
        "0..1",
    ),
    Column(
        "blurred_fraction",
        NUMBER,
        "tiles out of focus / tiles that were judged; behind the flag blurred",
        "0..1",
    ),
    Column(
        "seam_disagreement",
        NUMBER,
        "pixels along seams that two tiles label differently / pixels along seams; behind the "
        "flag seams",
        "0..1",
    ),
    Column("tiles", INTEGER, "tiles of the plan", "count"),
    Column(
        "roi_area_mm2",
        NUMBER,
        "area of the regions of interest to which all figures are confined; empty without any",
        "mm²",
    ),
)
"""Columns with figures of a slide's summary, under the names that they have there."""

MEASURES = (
    Column("foci_area_mm2", NUMBER, "area of all tumor foci", "mm²"),
    Column("median_focus_mm2", NUMBER, "median area of the tumor foci", "mm²"),
    Column("p90_focus_mm2", NUMBER, "90th percentile of the areas of the tumor foci", "mm²"),
    Column("largest_focus_share", NUMBER, "largest_focus_mm2 / foci_area_mm2", "0..1"),
    Column("bed_mm2", NUMBER, "analysed area of the tumor bed", "mm²"),
    Column("bed_tumor_mm2", NUMBER, "invasive tumor in the tumor bed", "mm²"),
    Column("bed_stroma_mm2", NUMBER, "stroma in the tumor bed", "mm²"),
    Column("bed_inflammatory_mm2", NUMBER, "inflammatory cells in the tumor bed", "mm²"),
    Column("border_stroma_mm2", NUMBER, "stroma within 500 µm of invasive tumor", "mm²"),
    Column(
        "border_inflammatory_mm2",
        NUMBER,
        "inflammatory cells within 500 µm of invasive tumor",
        "mm²",
    ),
    Column("necrosis_mm2", NUMBER, "necrosis on the whole slide", "mm²"),
    Column(
        "tumor_stroma_ratio",
        NUMBER,
        "bed_stroma_mm2 / (bed_tumor_mm2 + bed_stroma_mm2)",
        "0..1",
    ),
    Column(
        "tumor_stroma_class",
        CATEGORY,
        "stroma_high if tumor_stroma_ratio is above 0.5, else stroma_low",
    ),
    Column(
        "worst_field_tumor_stroma_ratio",
        NUMBER,
        "stroma / (tumor + stroma) in the field of 2 mm with the most stroma",
        "0..1",
    ),
    Column("worst_field_tumor_stroma_class", CATEGORY, "stroma_high or stroma_low of that field"),
    Column(
        "stromal_inflammation_fraction",
        NUMBER,
        "border_inflammatory_mm2 / (border_stroma_mm2 + border_inflammatory_mm2), a proxy of "
        "stromal TILs",
        "0..1",
    ),
    Column(
        "bed_inflammation_fraction",
        NUMBER,
        "bed_inflammatory_mm2 / (bed_stroma_mm2 + bed_inflammatory_mm2)",
        "0..1",
    ),
    Column("necrosis_fraction", NUMBER, "necrosis_mm2 / (tumor_area_mm2 + necrosis_mm2)", "0..1"),
)
"""Columns with spatial measures, under the names that they have in ``measures`` of a summary."""

ORIGIN = (
    Column("mpp_y", NUMBER, "height of a level-0 pixel", "µm"),
    Column("mpp_x", NUMBER, "width of a level-0 pixel", "µm"),
    Column("qc_flags", FLAGS, "quality flags; separated by ; in CSV"),
    Column(
        "mpp_source",
        CATEGORY,
        "source of the pixel size: user, metadata, file name, tiff tags, objective power",
    ),
    Column("reader", CATEGORY, "reader of the pixels: tiled-tiff, openslide, tiffslide, pillow"),
    Column("vendor", CATEGORY, "format of the file"),
    Column("model", CATEGORY, "name of the model that made the mask"),
    Column("model_sha256", CATEGORY, "sha256 of that model"),
    Column("seconds", NUMBER, "time of the slide's steps, in all runs together", "s"),
)
"""Columns that tell how a result came about."""

REVIEW = (
    Column(
        "review_status",
        CATEGORY,
        "accepted, rejected or look_again; disagreement if reviewers differ; empty: not reviewed",
    ),
    Column("reviewers", CATEGORY, "names of the reviewers, separated by ;"),
    Column(
        "reviewed_result",
        CATEGORY,
        "current; earlier if another model, settings or classes made the result after a review",
    ),
    Column("excluded_area_mm2", NUMBER, "analysed area in regions that reviewers leave out", "mm²"),
    Column("reviewed_tissue_area_mm2", NUMBER, "tissue_area_mm2 without these regions", "mm²"),
    Column("reviewed_tumor_area_mm2", NUMBER, "tumor_area_mm2 without these regions", "mm²"),
    Column(
        "reviewed_tumor_fraction_of_tissue",
        NUMBER,
        "reviewed_tumor_area_mm2 / reviewed_tissue_area_mm2",
        "0..1",
    ),
)
"""Columns that reviewers fill; the areas are empty if no region is left out."""

REGION = (
    Column("slide_id", TEXT, "name of the slide in this folder"),
    Column("patient_id", CATEGORY, "patient, from the manifest"),
    Column("group", CATEGORY, "group, from the manifest"),
    Column("region", TEXT, "name of the region, unique on its slide"),
    Column("region_class", CATEGORY, "class of the region in its file; empty without one"),
    Column("region_area_mm2", NUMBER, "area of the region on the slide", "mm²"),
    Column("tissue_area_mm2", NUMBER, "area of all pixels in it that were analysed", "mm²"),
    Column("tumor_area_mm2", NUMBER, "area of all classes with the role tumor in it", "mm²"),
    Column("tumor_fraction_of_tissue", NUMBER, "tumor_area_mm2 / tissue_area_mm2", "0..1"),
)
"""First columns of the table of regions of interest; regions that overlap each count in full."""

TILE_POSITION = (
    Column("row", pa.int32(), "row of the tile in the grid"),
    Column("col", pa.int32(), "column of the tile in the grid"),
    Column("y_um", NUMBER, "top of the core, from the top of the scanned region", "µm"),
    Column("x_um", NUMBER, "left edge of the core, from the left of the scanned region", "µm"),
    Column("height_um", NUMBER, "height of the core, cut to the slide", "µm"),
    Column("width_um", NUMBER, "width of the core, cut to the slide", "µm"),
    Column("tissue_fraction", NUMBER, "share of the core that is tissue", "0..1"),
)
"""First columns of the table of tiles."""

TILE_CONFIDENCE = Column(
    "mean_confidence",
    NUMBER,
    "mean probability of the predicted class over the core's tissue",
    "0..1",
)


_CLASS_AREA: Final = re.compile("class_(.+)_area_mm2")


def class_columns(name: str) -> tuple[Column, Column]:
    """Columns of one class in the table of slides: its area, and its share of the tissue."""
    area = f"class_{name}_area_mm2"
    return (
        Column(area, NUMBER, f"area of the class {name}", "mm²"),
        Column(f"class_{name}_fraction_of_tissue", NUMBER, f"{area} / tissue_area_mm2", "0..1"),
    )


def class_of(column: str) -> str | None:
    """Return the name of the class whose area a column has; None for another column."""
    found = _CLASS_AREA.fullmatch(column)
    return found[1] if found else None


def tile_columns(class_names: Sequence[str]) -> list[Column]:
    """Columns of the table of tiles."""
    classes = (
        Column(
            f"fraction_{name}", NUMBER, f"share of the core's tissue in the class {name}", "0..1"
        )
        for name in class_names
    )
    return [*TILE_POSITION, *classes, TILE_CONFIDENCE]


def describe_columns(table: pa.Table, regions: pa.Table | None = None) -> dict[str, Any]:
    """Contents of ``columns.json``: name, type, unit and description of each column.

    Args:
        table: table of slides.
        regions: table of regions of interest; None if there is none.
    """
    described = {"columns": _described(table)}
    return described | ({"regions": _described(regions)} if regions is not None else {})


def _described(table: pa.Table) -> list[dict[str, str]]:
    return [
        {
            "name": field.name,
            "type": _type_name(field.type),
            "unit": field.metadata[b"unit"].decode(),
            "description": field.metadata[b"description"].decode(),
        }
        for field in table.schema
    ]


def _type_name(kind: pa.DataType) -> str:
    """Name of a type; Parquet gives the values of a list another name than Arrow."""
    return _TYPE_NAMES[FLAGS if pa.types.is_list(kind) else kind]
