"""A crop depends on its number alone, and the cache holds regions as they were loaded."""

from dataclasses import replace

import numpy as np
import pytest

from noctile.pipeline.training.augment import Variation
from noctile.pipeline.training.crops import CropSampler, RegionCache, _cut, region_shares
from noctile.pipeline.truth.points import POINT, disc
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import IGNORED

STILL = Variation(scale=1, stain=0, hue=0, grey=0, light=0, blur=0, noise=0)


def pixels(height: int, width: int, seed: int = 0) -> LabelledPixels:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 2, (height, width, 3), np.uint8) * 200 + rng.integers(
        0, 50, (height, width, 3), np.uint8
    )
    return LabelledPixels(rgb, (rgb[..., 0] > 125).astype(np.uint8), 0.5)


def sampler(regions, variation=STILL, seed=0, crop_px=32) -> CropSampler:
    return CropSampler(regions, [1] * len(regions), crop_px, variation, seed)


def test_a_crop_depends_on_the_seed_and_its_number_alone():
    regions = [pixels(80, 90), pixels(64, 64, 1)]
    one, other = sampler(regions, Variation()), sampler(regions, Variation())
    forwards = [one(i) for i in range(6)]
    backwards = [other(i) for i in reversed(range(6))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])
    assert any(
        (a[0] != b[0]).any()
        for a, b in zip(forwards, map(sampler(regions, seed=1), range(6)), strict=True)
    )


def test_targets_stay_with_their_pixels_in_every_position():
    region = pixels(70, 70)
    for i in range(16):
        rgb, targets = sampler([region])(i)
        np.testing.assert_array_equal(targets, (rgb[..., 0].astype(int) > 125).astype(np.uint8))


def test_a_region_smaller_than_a_crop_is_white_and_ignored_around():
    rgb, targets = sampler([pixels(20, 24)], crop_px=32)(3)
    assert (targets == IGNORED).sum() == 32 * 32 - 20 * 24
    assert (rgb[targets == IGNORED] >= 253).all()


def test_each_crop_has_a_pixel_with_a_class():
    region = pixels(200, 200)
    region.targets[:] = IGNORED
    region.targets[60:140, 60:140] = 1
    draw = sampler([region])
    assert all((draw(i)[1] != IGNORED).any() for i in range(20))


def sparse(*points: tuple[int, int]) -> LabelledPixels:
    """A region without a class but in the discs of points."""
    region = pixels(400, 400)
    region.targets[:] = IGNORED
    for y, x in points:
        region.targets[disc((y + 0.5, x + 0.5), 0.5, (400, 400))] = 1
    return replace(region, points=np.array(points, float) + 0.5)


def test_half_of_the_crops_of_a_region_with_points_are_centred_at_one(tmp_path):
    held = sparse((100, 300), (350, 20))
    cache = RegionCache.build(tmp_path / "cache", "k", regions(tmp_path, 1), lambda _: held)
    view = cache.open()[0]
    assert np.array_equal(view.points, [[100, 300], [350, 20]])
    marked = held.targets != IGNORED
    assert np.array_equal(view.targets, np.where(marked, 1 + POINT, IGNORED))
    rng = np.random.default_rng(0)
    centres = [_cut(rng, view, 64)[1][32, 32] != IGNORED for _ in range(400)]
    assert 150 < sum(centres) < 250  # a random crop is almost never centred at a disc
    again = RegionCache.build(tmp_path / "cache", "k", regions(tmp_path, 1), lambda _: 1 / 0)
    assert again == cache


def regions(tmp_path, n=3) -> list[Region]:
    return [
        Region(
            f"r{k}", f"p{k}", "", "a" if k else "b", tmp_path / "image.png", tmp_path / "mask.png"
        )
        for k in range(n)
    ]


class TestCache:
    def test_holds_every_region_as_it_was_loaded(self, tmp_path):
        held = [pixels(10, 20), pixels(7, 5, 1), pixels(30, 3, 2)]
        some = regions(tmp_path)
        cache = RegionCache.build(tmp_path / "cache", "k", some, lambda r: held[some.index(r)])
        for view, expected in zip(cache.open(), held, strict=True):
            np.testing.assert_array_equal(view.rgb, expected.rgb)
            np.testing.assert_array_equal(view.targets, expected.targets)

    def test_a_cache_is_built_once_for_each_key(self, tmp_path):
        calls: list[str] = []

        def load(region):
            calls.append(region.region_id)
            return pixels(4, 4)

        for key in ("k", "k", "other"):
            RegionCache.build(tmp_path / "cache", key, regions(tmp_path), load)
        assert calls == ["r0", "r1", "r2"] * 2

    def test_a_cache_that_was_not_finished_is_built_again(self, tmp_path):
        def fails(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            RegionCache.build(tmp_path / "cache", "k", regions(tmp_path), fails)
        cache = RegionCache.build(
            tmp_path / "cache", "k", regions(tmp_path), lambda _: pixels(4, 4)
        )
        assert len(cache.open()) == 3

    def test_sources_are_cut_by_share_and_their_regions_by_area(self, tmp_path):
        some = regions(tmp_path)
        sizes = {"r0": (10, 10), "r1": (10, 10), "r2": (10, 30)}
        cache = RegionCache.build(
            tmp_path / "cache", "k", some, lambda r: pixels(*sizes[r.region_id])
        )
        assert region_shares(some, cache, {"b": 1.0, "a": 2.0}) == pytest.approx([1, 0.5, 1.5])
