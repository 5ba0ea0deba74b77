"""Comparison of two results of one slide."""

import json

import numpy as np
import pytest
from damaged_results import edit
from label_results import CLASSES, write_result

from noctile.pipeline.errors import StoreError
from noctile.pipeline.models.card import ClassInfo
from noctile.workflows.commands.diff_slide import (
    DiffJob,
    compare_pair,
    content_key,
    standing_figures,
)
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.layout import SlideFolder


def square(y: int, x: int, side: int = 80) -> np.ndarray:
    """Stroma with a square of tumor."""
    labels = np.full((260, 240), 2, np.uint8)
    labels[y : y + side, x : x + side] = 1
    return labels


def compared(tmp_path, a, b, about_a=None, about_b=None, alignment="level0") -> dict:
    a = write_result(tmp_path / "a", a, **(about_a or {}))
    b = write_result(tmp_path / "b", b, **(about_b or {}))
    compare_pair(DiffJob("s", a, b, tmp_path / "d", alignment))
    return standing_figures(SlideResult(SlideFolder(tmp_path / "d" / "slides" / "s")).summary)


def test_a_planted_shift_is_found_exactly(tmp_path):
    """A square of 80 px moves by 20 px: 60 x 80 px stay, and 20 x 80 px change on each side."""
    found = compared(tmp_path, square(40, 40), square(40, 60))
    mm2 = 0.25e-6
    assert found["tumor_dice"] == 0.75
    assert found["tumor_in_both_mm2"] == pytest.approx(60 * 80 * mm2, abs=5e-7)
    assert found["tumor_only_in_a_mm2"] == pytest.approx(20 * 80 * mm2, abs=5e-7)
    assert found["tumor_only_in_b_mm2"] == pytest.approx(20 * 80 * mm2, abs=5e-7)
    assert found["tumor_area_difference_mm2"] == 0
    assert found["tumor_agreement"] == pytest.approx(1 - 2 * 20 * 80 / (260 * 240), abs=1e-6)
    assert found["classes"]["stroma"]["dice"] == pytest.approx(
        1 - 20 * 80 / (260 * 240 - 80 * 80), abs=1e-6
    )
    change = np.asarray(SlideResult(SlideFolder(tmp_path / "d/slides/s")).mask())
    assert (change[40:120, 40:60] == 2).all()
    assert (change[40:120, 60:120] == 1).all()
    assert (change[40:120, 120:140] == 3).all()
    assert (change == 4).sum() == 260 * 240 - 100 * 80


def test_a_smaller_tumor_is_a_negative_difference(tmp_path):
    found = compared(tmp_path, square(40, 40), square(40, 40, 40))
    assert found["tumor_area_difference_mm2"] == pytest.approx(-4800 * 0.25e-6)
    assert found["tumor_area_relative_difference"] == -0.75
    assert found["tumor_dice"] == pytest.approx(2 * 1600 / (1600 + 6400))


def test_the_same_regions_at_half_the_pixel_size_are_equal(tmp_path):
    fine = square(40, 40).repeat(2, 0).repeat(2, 1)
    found = compared(tmp_path, fine, square(40, 40), {"mpp": 0.25}, {"mpp": 0.5})
    assert (found["grid"], found["grid_mpp_y"]) == ("b", 0.5)
    assert (found["tumor_dice"], found["class_agreement"]) == (1.0, 1.0)
    assert found["tumor_area_difference_mm2"] == 0


def test_swapped_codes_are_no_change(tmp_path):
    tumor, stroma = CLASSES
    swapped = tuple(c.model_copy(update={"code": 3 - c.code}) for c in (tumor, stroma))
    found = compared(tmp_path, square(40, 40), 3 - square(40, 40), None, {"classes": swapped})
    assert (found["tumor_dice"], found["class_agreement"]) == (1.0, 1.0)


def test_other_class_lists_share_what_they_have(tmp_path):
    others = (
        ClassInfo(code=1, name="carcinoma", color=(0, 0, 0), role="tumor"),
        ClassInfo(code=2, name="stroma", color=(0, 0, 0), role="tissue"),
        ClassInfo(code=3, name="fat", color=(0, 0, 0), role="tissue"),
    )
    found = compared(tmp_path, square(40, 40), square(40, 40), None, {"classes": others})
    assert found["tumor_dice"] == 1.0
    assert list(found["classes"]) == ["stroma"]


def test_pixels_analysed_on_one_side_are_counted(tmp_path):
    a, b = square(40, 40), square(40, 40)
    a[:30], b[250:] = 0, 0
    found = compared(tmp_path, a, b)
    assert (found["analysed_only_in_a_px"], found["analysed_only_in_b_px"]) == (2400, 7200)
    assert found["analysed_only_in_b_mm2"] == pytest.approx(7200 * 0.25e-6)
    assert found["tumor_agreement"] == 1.0


def test_bounds_of_the_same_file(tmp_path):
    """The region of b begins 30 px lower in the same file."""
    a = square(40, 40)
    found = compared(tmp_path, a, a[30:], {"bounds": (0, 0)}, {"bounds": (60, 0)})
    assert found["tumor_dice"] == 1.0
    assert found["analysed_only_in_a_px"] == 30 * 240
    assert found["outside_grid_mm2"] == 0


def test_labels_outside_the_grid_are_not_lost(tmp_path):
    a = square(40, 40)
    found = compared(tmp_path, a[30:], a, {"bounds": (60, 0)}, {"bounds": (0, 0)})
    assert found["outside_grid_mm2"] == pytest.approx(30 * 240 * 0.25e-6)


def test_other_files_are_compared_from_the_corner_of_the_region(tmp_path):
    a = square(40, 40)
    about = {"bounds": (500, 300), "native_mpp": 0.5, "content": "another scan"}
    found = compared(tmp_path, a, a, None, about, "physical")
    assert (found["tumor_dice"], found["alignment"], found["note"]) == (1.0, "physical", "")


def test_regions_of_other_sizes_get_a_note(tmp_path):
    found = compared(tmp_path, square(40, 40), square(40, 40)[:200], alignment="physical")
    assert found["note"] == (
        "scanned regions differ (0.1 x 0.1 mm, 0.1 x 0.1 mm): check that both are the same slide"
    )


def test_the_key_changes_with_the_results(tmp_path):
    a, b, c = (
        write_result(tmp_path / name, square(40, x))
        for name, x in (("a", 40), ("b", 40), ("c", 41))
    )
    keys = [content_key(DiffJob("s", a, other, tmp_path, "level0")) for other in (a, b, c)]
    assert keys[0] == keys[1] != keys[2]
    assert content_key(DiffJob("s", a, a, tmp_path, "physical")) != keys[0]


def test_labels_that_are_no_class_are_named(tmp_path, monkeypatch):
    small = square(0, 0)[:96, :96]
    a, b = (write_result(tmp_path / name, small) for name in "ab")
    monkeypatch.setattr("noctile.pipeline.masks.store.MaskStore.read", lambda *_: small + 9)
    with pytest.raises(StoreError, match="none of its classes"):
        compare_pair(DiffJob("s", a, b, tmp_path / "d", "level0"))
    assert not (tmp_path / "d" / ".staging" / "s").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"tumor_area_mm2": float("nan")},
        {"tissue_area_mm2": None},
        {"class_area_mm2": {"tumor": -1.0, "stroma": 1.0}},
        {"mpp": [float("nan"), 0.5]},
        {"mpp": [1e5, 0.5]},
        {"bounds_px": [1e300, 0, 1, 1]},
    ],
    ids=lambda values: next(iter(values)),
)
def test_figures_that_cannot_be_true_are_damage(tmp_path, values):
    a, b = (write_result(tmp_path / name, square(40, 40)[:90, :90]) for name in "ab")
    edit(b / "summary.json", **values)
    record = json.loads((b / "checksums.json").read_text())
    record["bytes"]["summary.json"] = (b / "summary.json").stat().st_size
    (b / "checksums.json").write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"summary\.json is damaged"):
        compare_pair(DiffJob("s", a, b, tmp_path / "d", "level0"))
    assert not (tmp_path / "d" / "slides").exists()


def test_a_summary_without_figures_is_damaged():
    with pytest.raises(StoreError, match="damaged"):
        standing_figures({"diff": 3})
