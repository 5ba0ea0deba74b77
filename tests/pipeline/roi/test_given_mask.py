"""Tissue masks that the user gives: their frame, and masks of other slides."""

from pathlib import Path

import numpy as np
import pytest
from roi_files import write_mask
from standins import stored_labels

from noctile.pipeline.errors import TissueMaskError
from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks.ngff import LABELS
from noctile.pipeline.roi.given_mask import read_given_mask
from noctile.pipeline.slides.base import SlideInfo

NATIVE = Frame(Extent(1200, 1600), 0.25, 0.25)
COARSEST, FINEST = NATIVE.at(8.0), NATIVE.at(0.5)
INFO = SlideInfo(
    "a", Path("a.svs"), "f1", NATIVE, (NATIVE,), "x", "x", "user", "none", None, NATIVE.box
)


def read(path):
    return read_given_mask(path, INFO, COARSEST, FINEST)


@pytest.mark.parametrize("shape", [(1200, 1600), (300, 400), (75, 100), (38, 50), (3, 4)])
def test_a_picture_of_any_scale_marks_the_same_place(tmp_path, shape):
    half = np.arange(shape[0])[:, None].repeat(shape[1], 1) >= shape[0] / 3
    tissue = read(write_mask(tmp_path / "m.png", half))
    found = tissue.on(FINEST.box, FINEST)
    assert found.mean() == pytest.approx(half.mean(), abs=0.01)
    assert not found[: 600 // 3 - 8].any()
    assert tissue.flags == ("tissue_mask_given",)
    assert tissue.rule == "tissue mask of the manifest: m.png"
    assert min(tissue.frame.mpp_y, tissue.frame.mpp_x) >= FINEST.mpp_y
    assert max(tissue.frame.mpp_y, tissue.frame.mpp_x) <= COARSEST.mpp_y * 1.02


def test_a_division_of_coarse_pixels_moves_no_edge(tmp_path):
    mask = np.random.default_rng(0).random((15, 20)) < 0.5
    found = read(write_mask(tmp_path / "m.png", mask)).on(FINEST.box, FINEST)
    assert np.array_equal(found, mask.repeat(40, 0).repeat(40, 1))


@pytest.mark.parametrize("shape", [(1600, 1200), (100, 100), (75, 110), (300, 420)])
def test_pictures_with_another_ratio_of_sides_are_refused(tmp_path, shape):
    path = write_mask(tmp_path / "m.png", np.ones(shape, bool))
    with pytest.raises(TissueMaskError, match=r"m\.png .*another ratio"):
        read(path)


def test_a_picture_without_tissue_is_refused(tmp_path):
    with pytest.raises(TissueMaskError, match="marks no tissue"):
        read(write_mask(tmp_path / "m.png", np.zeros((75, 100), bool)))


def mask_of_noctile(folder: Path, fingerprint: str) -> Path:
    labels = np.zeros((600, 800), np.uint8)
    labels[100:300, 50:400] = 2
    made = stored_labels(folder / "a", labels, slide_mpp=(0.25, 0.25))
    file = made.store.path / "labels" / LABELS / "zarr.json"
    text = file.read_text()
    assert '"slide_id"' in text
    file.write_text(text.replace('"slide_id"', f'"fingerprint": "{fingerprint}", "slide_id"', 1))
    return folder / "a"


def test_the_analysed_pixels_of_a_result_are_tissue(tmp_path):
    folder = mask_of_noctile(tmp_path, "f1")
    for path in (folder, folder / "mask.ome.zarr"):
        found = read(path).on(FINEST.box, FINEST)
        assert found[100:300, 50:400].all()
        assert found.sum() == 200 * 350


def test_a_result_of_another_slide_is_refused(tmp_path):
    with pytest.raises(TissueMaskError, match="made from another slide"):
        read(mask_of_noctile(tmp_path, "f2"))


def test_a_folder_without_a_mask_is_refused(tmp_path):
    with pytest.raises(TissueMaskError, match="cannot be read"):
        read(tmp_path)
