"""`noctile inspect`: the description of a slide agrees with its file and with a run."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from standins import small_slide, tissue_of

from noctile.cli import main
from noctile.pipeline.errors import MppMissingError
from noctile.workflows.commands.inspect import draw_outline, inspect_slide
from noctile.workflows.settings import RunSettings


@pytest.fixture
def slide(tmp_path):
    small_slide(tmp_path / "a.tif", seed=0, height=900, width=1100)
    return tmp_path / "a.tif"


def test_size_pixel_size_and_levels_are_those_of_the_file(slide, model):
    found = inspect_slide(slide, None, RunSettings(model=str(model)), None)
    assert found["slide"] == "a"
    assert found["size"] == "1100 x 900 px, 0.2 mm2"
    assert found["mpp"] == "0.5 x 0.5 um/px from tiff tags"
    assert found["levels"] == "1100 x 900 (0.5 um/px), 275 x 225 (2 um/px)"
    assert found["compression"] == "jpeg"


@pytest.mark.parametrize(
    ("order", "shown"),
    [("rgb", "RGB"), ("bgr", "BGR, read as RGB"), ("doubtful", "doubtful, read as it is")],
)
def test_the_channel_order_is_shown(slide, model, monkeypatch, order, shown):
    monkeypatch.setattr("noctile.pipeline.slides.pyramid.channel_order", lambda _: order)
    found = inspect_slide(slide, None, RunSettings(model=str(model)), None)
    assert found["channels"] == shown


def test_tiles_are_counted_with_the_settings(slide, model):
    whole = inspect_slide(slide, None, RunSettings(model=str(model), block_px=4096), None)
    small = inspect_slide(slide, None, RunSettings(model=str(model), block_px=480), None)
    assert "of 128 px at 0.5 um/px in 1 blocks" in whole["tiles"]
    assert "in 4 blocks" in small["tiles"]  # of 6: two have no tissue


def test_a_slide_without_tissue_has_no_tile(tmp_path, model):
    small_slide(tmp_path / "glass.tif", seed=None, height=600, width=600)
    found = inspect_slide(tmp_path / "glass.tif", None, RunSettings(model=str(model)), None)
    assert found["tissue"].startswith("0.00 mm2, 0.0% of the slide")
    assert found["tiles"].startswith("0 of 128 px")


def test_the_given_pixel_size_is_used_where_the_file_states_none(tmp_path, model):
    small_slide(tmp_path / "a.tif", seed=0, height=900, width=1100, mpp=None)
    settings = RunSettings(model=str(model))
    assert inspect_slide(tmp_path / "a.tif", 0.25, settings, None)["mpp"].startswith("0.25 x 0.25")
    with pytest.raises(MppMissingError):
        inspect_slide(tmp_path / "a.tif", None, settings, None)


def test_the_thumbnail_has_the_size_of_the_tissue_search(slide, model, tmp_path):
    settings = RunSettings(model=str(model))
    inspect_slide(slide, None, settings, tmp_path / "thumbnail.png")
    scale = 0.5 / settings.tissue.mpp
    with Image.open(tmp_path / "thumbnail.png") as picture:
        assert picture.size == pytest.approx((1100 * scale, 900 * scale), abs=1)


def test_the_outline_surrounds_the_tissue_and_leaves_it_visible():
    mask = np.zeros((20, 20), bool)
    mask[8:12, 8:12] = True
    pixels = np.full((20, 20, 3), 200, np.uint8)
    drawn = draw_outline(pixels, tissue_of(mask))
    changed = (drawn != pixels).any(axis=2)
    assert (drawn[mask] == 200).all()
    assert changed[7, 9]
    assert not changed[0].any()
    assert (pixels == 200).all()


def test_the_command_prints_the_description(slide, model):
    done = CliRunner().invoke(main, ["inspect", str(slide), "--model", str(model)])
    assert done.exit_code == 0
    assert "0.5 x 0.5 um/px from tiff tags" in done.output
    assert "for model dark" in " ".join(done.output.split())
