"""Augmentation changes pixels within its limits and invents no class."""

import numpy as np
import pytest

from noctile.pipeline.training.augment import (
    Variation,
    draw_scale,
    resize_crop,
    turn_crop,
    vary_appearance,
)
from noctile.pipeline.truth.region import LabelledPixels

STILL = Variation(scale=1, stain=0, hue=0, grey=0, light=0, blur=0, noise=0)


def pixels(height: int, width: int, seed: int = 0) -> LabelledPixels:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 2, (height, width, 3), np.uint8) * 200 + rng.integers(
        0, 50, (height, width, 3), np.uint8
    )
    return LabelledPixels(rgb, (rgb[..., 0] > 125).astype(np.uint8), 0.5)


def test_without_variation_a_crop_keeps_its_colors_up_to_rounding():
    rgb = np.random.default_rng(0).integers(0, 250, (16, 16, 3), np.uint8)
    found = vary_appearance(np.random.default_rng(0), rgb, STILL)
    assert np.abs(found.astype(int) - rgb).max() <= 2  # optical density is taken of grey + 1


def test_all_eight_positions_occur():
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    rng = np.random.default_rng(0)
    assert len({turn_crop(rng, rgb, rgb[..., 0])[0].tobytes() for _ in range(100)}) == 8


def test_resizing_invents_no_class():
    region = pixels(50, 50)
    assert set(np.unique(resize_crop(region.rgb, region.targets, 32)[1])) <= {0, 1}


@pytest.mark.parametrize("part", ["stain", "hue", "light", "noise"])
def test_each_part_of_the_variation_changes_pixels(part):
    rgb = pixels(32, 32).rgb
    spec = STILL.model_copy(update={part: 0.2 if part != "noise" else 8})
    assert (
        vary_appearance(np.random.default_rng(1), rgb, spec)
        != vary_appearance(np.random.default_rng(1), rgb, STILL)
    ).any()


def test_scales_stay_within_their_limit() -> None:
    rng = np.random.default_rng(0)
    scales = [draw_scale(rng, Variation(scale=1.5)) for _ in range(200)]
    assert 1 / 1.5 <= min(scales) < 0.8
    assert 1.3 < max(scales) <= 1.5
