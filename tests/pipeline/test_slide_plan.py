"""Plan of a slide from its pixels."""

import numpy as np
import pytest
from standins import small_slide

from noctile.pipeline import slide_plan
from noctile.pipeline.errors import MppImplausibleError
from noctile.pipeline.plan import Tiling
from noctile.pipeline.slide_plan import plan_slide
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.tissue import TissueSpec

TILING = Tiling(mpp=0.5, tile_px=128, overlap_px=32, window="crop", block_px=480, n_classes=2)


@pytest.fixture
def reader(tmp_path):
    small_slide(tmp_path / "a.tif", seed=0, height=700, width=900)
    opened = open_slide(tmp_path / "a.tif")
    yield opened
    opened.close()


def test_a_plan_holds_tiles_tissue_and_thumbnail(reader):
    planned = plan_slide(reader, TissueSpec(), TILING, measure_stain=False)
    assert planned.tiles.slide_id == "a"
    assert planned.tiles.predictions > 0
    assert planned.stain is None
    assert planned.thumbnail.shape[:2] == planned.tissue.mask.shape
    assert planned.thumbnail_frame.mpp == 8.0


def test_the_thumbnail_is_never_finer_than_the_label_map(reader):
    coarse = Tiling(mpp=16.0, tile_px=32, overlap_px=8, window="crop", block_px=256, n_classes=2)
    planned = plan_slide(reader, TissueSpec(min_area_mm2=0.0), coarse, measure_stain=False)
    assert planned.thumbnail_frame.mpp == 16.0


def test_stain_is_measured_for_models_that_use_it(reader):
    planned = plan_slide(reader, TissueSpec(), TILING, measure_stain=True)
    assert planned.stain is not None
    assert np.all(np.asarray(planned.stain) >= 0)


def test_tissue_wider_than_a_slide_is_refused(reader, monkeypatch):
    monkeypatch.setattr(slide_plan, "MAX_TISSUE_MM", 0.1)
    with pytest.raises(MppImplausibleError, match="pass the true pixel size"):
        plan_slide(reader, TissueSpec(), TILING, measure_stain=False)
