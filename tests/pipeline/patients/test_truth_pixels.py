"""True classes of analysed pixels: by blocks as in one piece, whatever lies where."""

import numpy as np
import pytest
from label_results import BLOCK_PX, write_result

from noctile.pipeline.errors import UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.patients import truth_pixels
from noctile.pipeline.patients.truth_pixels import code_annotations, count_truth
from noctile.pipeline.roi import cut
from noctile.pipeline.roi.cut import Cut
from noctile.pipeline.truth.drawing import draw_coded
from noctile.pipeline.truth.geojson import Annotation

SCALE = (0.5, 0.5)
CLASSES = [
    ClassInfo(code=code, name=name, color=(1, 2, 3), role="tissue")
    for code, name in ((1, "Fat_tissue"), (9, "tumor"))
]


def polygon(label: str | None, *points: tuple[float, float]) -> Annotation:
    return Annotation(label, ((np.array(points, float),),))


def square(label: str | None, y: float, x: float, side: float) -> Annotation:
    return polygon(label, (y, x), (y, x + side), (y + side, x + side), (y + side, x))


@pytest.fixture
def store(tmp_path) -> MaskStore:
    labels = np.random.default_rng(0).integers(0, 3, (250, 310)).astype(np.uint8)
    labels[BLOCK_PX : 2 * BLOCK_PX, :BLOCK_PX] = 0  # a block that is not stored
    return MaskStore.open(write_result(tmp_path, labels) / "mask.ome.zarr")


def coded(random: np.random.Generator, *, frame: bool) -> list[tuple[Annotation, int]]:
    found = [
        (polygon("x", *random.uniform(-50, 700, (int(random.integers(3, 9)), 2))), code)
        for code in random.integers(0, 10, 30).tolist()
    ]
    return [*found, (square(None, 10.3, 12.8, 170), 0)] if frame else found


@pytest.mark.parametrize("frame", [False, True])
def test_blocks_and_strips_give_the_count_of_the_whole(store, monkeypatch, frame):
    monkeypatch.setattr(cut, "_STRIP_PX", 40)
    areas, boxes = coded(np.random.default_rng(3), frame=frame), []

    def draw(*values):
        boxes.append(values[-1])
        return draw_coded(*values)

    monkeypatch.setattr(truth_pixels, "draw_coded", draw)
    region = [[np.array([(100, 40), (380, 90), (250, 500)], float)]]
    left_out = Cut(region, SCALE, store.layout.frame.box)
    counts = count_truth(store, areas, SCALE, left_out)
    whole = store.layout.frame.box
    analysed = (store.read(whole) > 0) & ~left_out.inside(whole)
    codes = draw_coded(areas, SCALE, store.layout.frame.mpp, whole)
    assert np.array_equal(counts, np.bincount(codes[analysed], minlength=256))
    assert max(box.height for box in boxes) <= 40
    assert max(box.width for box in boxes) <= BLOCK_PX
    assert sum(box.area for box in boxes) == whole.area - BLOCK_PX**2


def test_the_smallest_area_lies_on_top(store):
    areas = [(square("x", 20, 20, 40), 9), (square("x", 0, 0, 200), 1), (square("x", 0, 0, 90), 0)]
    counts = count_truth(store, areas, SCALE, None)
    analysed = store.read(store.layout.frame.box) > 0
    assert counts[9] == analysed[10:30, 10:30].sum()
    assert counts[1] == analysed[:100, :100].sum() - analysed[:45, :45].sum()


def test_classes_are_those_of_the_model_by_name_and_no_others():
    """Code 1 is tumor in BCSS, and fat in this model."""
    labels = ["TUMOR", "fat-tissue", "Ignore*", None]
    areas = [square(label, 0, 0, 9) for label in labels]
    assert [code for _, code in code_annotations(areas, CLASSES, "a")] == [9, 1, 0, 0]
    with pytest.raises(UsageError, match=r"b: the model has no class \'Stroma\'; known are ignore"):
        code_annotations([square("Stroma", 0, 0, 9)], CLASSES, "b")


def test_without_annotations_all_pixels_are_unknown(store):
    analysed = int((store.read(store.layout.frame.box) > 0).sum())
    assert count_truth(store, [], SCALE, None)[0] == analysed
