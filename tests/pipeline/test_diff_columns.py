"""Columns of the table of a comparison."""

from noctile.pipeline.diff_columns import diff_columns


def test_names_are_unique_and_units_are_stated():
    columns = diff_columns(["tumor", "stroma"])
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    assert {c.unit for c in columns if c.name.endswith("_mm2")} == {"mm²"}
    assert {c.unit for c in columns if c.name.endswith("_px")} == {"count"}
    assert {c.unit for c in columns if c.name.endswith("_dice")} == {"0..1"}
    assert all(column.description for column in columns)
    assert "class_stroma_area_difference_mm2" in names


def test_the_documentation_has_every_column(repo):
    text = (repo / "docs" / "diff.md").read_text(encoding="utf-8")
    for column in diff_columns(["<name>"]):
        about = column.type_name, column.unit, column.description
        assert f"| `{column.name}` | {' | '.join(about)} |" in text
