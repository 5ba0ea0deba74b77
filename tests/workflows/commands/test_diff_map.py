"""Change maps as ordinary results."""

import numpy as np
import pytest
from damaged_results import edit
from label_results import write_result

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box
from noctile.workflows.commands.diff_map import ChangeMap
from noctile.workflows.commands.diff_pixels import DiffSide
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.commands.verify_slide import verify_slide
from noctile.workflows.results.layout import SlideFolder

LABELS = np.ones((200, 300), np.uint8)


@pytest.fixture
def side(tmp_path) -> DiffSide:
    return DiffSide(write_result(tmp_path / "a", LABELS, bounds=(8, 4)))


def made(side: DiffSide, tmp_path, change: np.ndarray) -> SlideFolder:
    folder = SlideFolder(tmp_path / "diff" / "other name")
    change_map = ChangeMap(folder, side, "key", {"a": "x"})
    for y in range(0, 200, 96):
        for x in range(0, 300, 96):
            box = Box(y, x, 96, 96).intersect(Box(0, 0, 200, 300))
            change_map.add(box, np.ascontiguousarray(change[box.slices()]))
    change_map.finish({"tumor_dice": 0.5}, ["seams"])
    return folder


def test_a_change_map_is_an_intact_result(side, tmp_path):
    change = np.random.default_rng(0).integers(0, 5, LABELS.shape).astype(np.uint8)
    folder = made(side, tmp_path, change)
    assert verify_slide(folder, None).faults == ()
    result = SlideResult(folder)
    assert (np.asarray(result.mask()) == change).all()
    assert [c.name for c in result.classes.values()] == [
        "tumor_in_both",
        "only_in_a",
        "only_in_b",
        "no_tumor",
    ]
    assert result.area_mm2["only_in_b"] == pytest.approx((change == 3).sum() * 0.25e-6, abs=6e-7)
    assert result.summary["qc_flags"] == ["seams"]
    assert result.to_level0(0, 0) == (8, 4)


def test_regions_of_change_are_counted(side, tmp_path):
    """Tumor in a alone touches tumor in b alone; a small region apart does not count."""
    change = np.full(LABELS.shape, 4, np.uint8)
    change[20:180, 0:256], change[20:180, 256:300], change[190:196] = 2, 3, 2
    folder = made(side, tmp_path, change)
    figures = SlideResult(folder).summary["diff"]
    assert figures["changed_regions"] == 1
    assert figures["largest_changed_mm2"] == pytest.approx(160 * 300 * 0.25e-6, rel=0.1)
    assert figures["tumor_dice"] == 0.5
    assert not np.asarray(SlideResult(folder).heat()).any()
    assert SlideResult(folder).summary["mean_confidence"] is None


def test_nothing_analysed_is_a_result_too(side, tmp_path):
    folder = made(side, tmp_path, np.zeros(LABELS.shape, np.uint8))
    assert verify_slide(folder, None).faults == ()
    assert SlideResult(folder).summary["tissue_area_mm2"] == 0


def test_a_damaged_plan_is_named(side, tmp_path):
    edit(side.folder.plan, plan={"frame": 3})
    with pytest.raises(StoreError, match=r"plan.json is damaged"):
        ChangeMap(SlideFolder(tmp_path / "x"), side, "key", {})
