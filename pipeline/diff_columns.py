"""Columns of the table of a comparison: name, type, unit and description of each."""

from collections.abc import Sequence

from noctile.pipeline.columns import CATEGORY, INTEGER, NUMBER, TEXT, Column

COMPARED = "compared"
"""Status of a slide whose two results were compared."""

PAIR = (
    Column("slide_id", TEXT, "name of the slide in this folder"),
    Column("slide_id_a", TEXT, "name of the slide in folder a; empty if a does not have it"),
    Column("slide_id_b", TEXT, "name of the slide in folder b; empty if b does not have it"),
    Column("patient_id", CATEGORY, "patient, from the manifest of a, else of b"),
    Column("group", CATEGORY, "group, from the manifest of a, else of b"),
    Column(
        "status",
        CATEGORY,
        "compared; only_a, only_b: the other folder does not have the slide; not_done: it has no "
        "result on one side; unreadable: its results could not be compared",
    ),
    Column("matched_by", CATEGORY, "manifest, content or slide_id: the rule that matched them"),
    Column("message", CATEGORY, "text that says why it was not compared, or what to check"),
)
"""Columns that every slide of both folders has."""


def area_columns(begin: str, what: str) -> tuple[Column, ...]:
    """Columns of an area on both sides, and of its difference.

    Args:
        begin: begin of their names.
        what: the area, for a reader.
    """
    return (
        Column(f"{begin}area_a_mm2", NUMBER, f"{what} in a", "mm²"),
        Column(f"{begin}area_b_mm2", NUMBER, f"{what} in b", "mm²"),
        Column(f"{begin}area_difference_mm2", NUMBER, f"{what} in b minus that in a", "mm²"),
        Column(
            f"{begin}area_relative_difference",
            NUMBER,
            f"that difference / {what} in a; empty if that is 0",
            "1",
        ),
    )


OVERLAP = (
    Column("tumor_dice", NUMBER, "Dice of the tumor; empty if neither side has any", "0..1"),
    Column("tumor_in_both_mm2", NUMBER, "area that is tumor in a and in b", "mm²"),
    Column("tumor_only_in_a_mm2", NUMBER, "area that is tumor in a and not in b", "mm²"),
    Column("tumor_only_in_b_mm2", NUMBER, "area that is tumor in b and not in a", "mm²"),
    Column(
        "changed_regions",
        INTEGER,
        "connected regions (8 neighbours) that are tumor in a or b alone, of at least 0.01 mm², "
        "counted at about 4 µm/px",
        "count",
    ),
    Column("largest_changed_mm2", NUMBER, "area of the largest of them", "mm²"),
    Column(
        "tumor_agreement",
        NUMBER,
        "share of the pixels analysed in both on which both say tumor or both say no tumor",
        "0..1",
    ),
    Column(
        "class_agreement",
        NUMBER,
        "share of the pixels with a common class in both on which it is the same class",
        "0..1",
    ),
    Column("analysed_in_both_mm2", NUMBER, "area that both analysed", "mm²"),
    Column("analysed_only_in_a_mm2", NUMBER, "area that a analysed and b did not", "mm²"),
    Column("analysed_only_in_b_mm2", NUMBER, "area that b analysed and a did not", "mm²"),
    Column("analysed_only_in_a_px", INTEGER, "the same, in pixels of the grid", "count"),
    Column("analysed_only_in_b_px", INTEGER, "the same, in pixels of the grid", "count"),
    Column("outside_grid_mm2", NUMBER, "area analysed by the other side outside the grid", "mm²"),
)
"""Columns that come from the comparison pixel by pixel."""

FRAME = (
    Column("grid", CATEGORY, "a or b: the side whose label map gives the pixels"),
    Column("grid_mpp_y", NUMBER, "height of a pixel of the grid", "µm"),
    Column("grid_mpp_x", NUMBER, "width of a pixel of the grid", "µm"),
    Column(
        "alignment",
        CATEGORY,
        "level0: level-0 pixels of the same file; physical: µm from the corner of the scanned "
        "region",
    ),
    Column("model_a", CATEGORY, "name of the model that made the result in a"),
    Column("model_b", CATEGORY, "name of the model that made the result in b"),
    Column("model_sha256_a", CATEGORY, "sha256 of that model"),
    Column("model_sha256_b", CATEGORY, "sha256 of that model"),
    Column("run_a", CATEGORY, "id of the run that made the result in a"),
    Column("run_b", CATEGORY, "id of the run that made the result in b"),
)
"""Columns that tell how the comparison came about."""


def class_columns(name: str) -> tuple[Column, ...]:
    """Columns of a class that both sides have."""
    dice = f"Dice of the class {name}; empty if neither side has any"
    return (
        *area_columns(f"class_{name}_", f"area of the class {name}"),
        Column(f"class_{name}_dice", NUMBER, dice, "0..1"),
    )


def diff_columns(class_names: Sequence[str]) -> list[Column]:
    """Columns of the table of a comparison.

    Args:
        class_names: names of the classes that both sides have in some slide.
    """
    classes = [column for name in class_names for column in class_columns(name)]
    return [
        *PAIR,
        *area_columns("tissue_", "analysed area"),
        *area_columns("tumor_", "area of the classes with the role tumor"),
        *OVERLAP,
        *classes,
        *FRAME,
    ]
