"""The tissue finder on glass, tissue, ink and dirt, in drawings and in real slides."""

import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.tissue import TissueSpec, find_tissue

SPEC = TissueSpec()
GLASS = 243
PINK, PURPLE = (205, 130, 175), (120, 70, 150)
INKS = {"blue": (40, 60, 170), "green": (30, 130, 80), "red": (205, 25, 40), "black": (40, 40, 46)}


def at_8(pixels: np.ndarray, mpp: float = 8.0) -> Frame:
    return Frame(Extent(*pixels.shape[:2]), mpp, mpp)


def glass(height: int = 300, width: int = 400, noise: float = 1.5) -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, noise, (height, width, 1))
    return np.clip(np.full((height, width, 3), GLASS) + grain, 0, 255).astype(np.uint8)


def disc(shape: tuple[int, ...], y: int, x: int, radius: int) -> np.ndarray:
    return np.hypot(*np.ogrid[-y : shape[0] - y, -x : shape[1] - x]) < radius


def stained(strength: float = 1.0, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A disc of mottled H&E on glass, and its mask; ``strength`` scales its optical density."""
    pixels = glass()
    inside = disc(pixels.shape, 150, 190, 90)
    mottle = (
        ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(pixels.shape[:2]), 1.5)
        > 0
    )
    colours = np.where(mottle[..., None], PINK, PURPLE) / GLASS
    pixels[inside] = (GLASS * colours**strength)[inside].astype(np.uint8)
    return pixels, inside


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


class TestGlass:
    @pytest.mark.parametrize("noise", [0, 1, 3, 6])
    def test_noise_on_glass_is_no_tissue(self, noise):
        pixels = glass(noise=noise)
        found = find_tissue(pixels, at_8(pixels), SPEC)
        assert not found.mask.any()
        assert "no_tissue" in found.flags

    def test_jpeg_noise_is_no_tissue(self, tmp_path):
        Image.fromarray(glass(noise=3)).save(tmp_path / "g.jpg", quality=40)
        pixels = np.asarray(Image.open(tmp_path / "g.jpg"))
        assert not find_tissue(pixels, at_8(pixels), SPEC).mask.any()

    def test_a_shadow_across_the_glass_is_no_tissue(self):
        shade = np.linspace(1.0, 0.9, 400)[None, :, None]
        pixels = (glass() * shade).astype(np.uint8)
        assert not find_tissue(pixels, at_8(pixels), SPEC).mask.any()

    def test_tinted_glass_is_no_tissue(self):
        pixels = (glass() * np.array([0.97, 0.99, 0.95])).astype(np.uint8)
        assert not find_tissue(pixels, at_8(pixels), SPEC).mask.any()

    @pytest.mark.parametrize("level", [180, 205, 228])
    def test_dark_glass_is_no_tissue(self, level):
        pixels = (glass() * (level / GLASS)).astype(np.uint8)
        assert not find_tissue(pixels, at_8(pixels), SPEC).mask.any()

    def test_a_large_grey_smudge_is_no_tissue(self):
        pixels = glass().astype(float)
        smudge = ndimage.gaussian_filter(disc(pixels.shape, 150, 200, 40).astype(float), 6)
        pixels = (pixels * (1 - 0.45 * smudge[..., None])).astype(np.uint8)
        assert not find_tissue(pixels, at_8(pixels), SPEC).mask.any()

    def test_dust_is_no_tissue(self):
        pixels = glass()
        for y, x in ((50, 60), (200, 300), (250, 100)):
            pixels[disc(pixels.shape, y, x, 4)] = (110, 100, 95)
        assert find_tissue(pixels, at_8(pixels), SPEC).flags == ("no_tissue",)

    def test_bright_fluorescence_is_flagged(self):
        glow = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((200, 200)), 5)
        pixels = np.zeros((200, 200, 3), np.uint8)
        pixels[..., 2] = np.clip(90 + 900 * glow, 0, 255)
        assert find_tissue(pixels, at_8(pixels), SPEC).flags == ("no_tissue", "not_h_and_e")

    def test_a_dark_field_is_flagged(self):
        pixels = np.random.default_rng(0).integers(0, 40, (200, 200, 3), np.uint8)
        found = find_tissue(pixels, at_8(pixels), SPEC)
        assert not found.mask.any()
        assert (found.rule, found.flags) == ("dark background", ("no_tissue", "not_h_and_e"))


class TestTissue:
    @pytest.mark.parametrize("strength", [1.5, 1.0, 0.5, 0.2, 0.12])
    def test_a_pale_disc_is_found(self, strength):
        pixels, inside = stained(strength)
        assert dice(find_tissue(pixels, at_8(pixels), SPEC).mask, inside) > 0.95

    def test_a_slide_full_of_tissue_is_all_tissue(self):
        pixels = np.where(
            np.random.default_rng(0).random((200, 200, 1)) < 0.5, PINK, PURPLE
        ).astype(np.uint8)
        found = find_tissue(pixels, at_8(pixels), SPEC)
        assert found.mask.all()
        assert found.flags == ("almost_all_tissue",)

    def test_fat_is_tissue_with_all_its_lacunae(self):
        """Pale walls of one pixel, and lacunae of 70 um that are as empty as the glass around."""
        pixels = glass()
        inside = disc(pixels.shape, 150, 190, 90)
        rng = np.random.default_rng(2)
        centres = rng.uniform((50, 90), (250, 290), (420, 2))
        y, x = np.mgrid[:300, :400]
        nearest = np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in centres], axis=0)
        walls = (nearest != np.roll(nearest, 1, 0)) | (nearest != np.roll(nearest, 1, 1))
        pixels[walls & inside] = (225, 190, 210)
        found = find_tissue(pixels, at_8(pixels), SPEC).mask
        assert np.count_nonzero(found & inside) > 0.92 * np.count_nonzero(
            inside
        )  # the rim cuts cells open
        assert np.count_nonzero(found & ~inside) < 0.1 * np.count_nonzero(inside)

    def test_pieces_below_the_limit_are_removed_and_larger_ones_stay(self):
        pixels = glass()
        small, large = (
            disc(pixels.shape, 80, 80, 7),
            disc(pixels.shape, 200, 250, 12),
        )  # 0.0098 and 0.029 mm2
        pixels[small | large] = PURPLE
        found = find_tissue(pixels, at_8(pixels), SPEC).mask
        assert not found[small].any()
        assert found[large].mean() > 0.95

    @pytest.mark.parametrize(("side", "flags"), [(740, ("little_tissue",)), (690, ())])
    def test_less_than_a_thousandth_of_the_slide_is_little(self, side, flags):
        pixels = glass(side, side)
        pixels[disc(pixels.shape, 200, 250, 12)] = PURPLE
        found = find_tissue(pixels, at_8(pixels), SPEC)
        assert found.mask.mean() == pytest.approx(0.001, rel=0.15)
        assert found.flags == flags

    def test_small_holes_are_filled_and_large_ones_stay(self):
        pixels, _ = stained()
        small, large = (
            disc(pixels.shape, 110, 190, 12),
            disc(pixels.shape, 180, 190, 30),
        )  # 0.029 and 0.18 mm2
        pixels[small | large] = GLASS
        found = find_tissue(pixels, at_8(pixels), SPEC).mask
        assert found[small].all()
        assert found[large].mean() < 0.3

    def test_pixels_that_are_not_square_change_only_the_area(self):
        pixels, inside = stained()
        found = find_tissue(pixels, Frame(Extent(300, 400), 6.0, 10.0), SPEC)
        assert dice(found.mask, inside) > 0.95
        assert found.area_mm2 == np.count_nonzero(found.mask) * 60e-6
        assert found.width_mm == pytest.approx(180 * 10 / 1000, rel=0.05)

    def test_twice_the_resolution_finds_the_same_tissue(self):
        pixels, _ = stained()
        fine = np.asarray(Image.fromarray(pixels).resize((800, 600), Image.Resampling.BICUBIC))
        a, b = find_tissue(pixels, at_8(pixels), SPEC), find_tissue(fine, at_8(fine, 4.0), SPEC)
        assert b.area_mm2 == pytest.approx(a.area_mm2, rel=0.03)


class TestDirt:
    @pytest.mark.parametrize("ink", INKS)
    def test_ink_beside_tissue_is_removed_and_the_tissue_stays(self, ink):
        pixels, inside = stained()
        stroke = np.zeros(inside.shape, bool)
        stroke[20:280, 310:335] = True
        pixels[stroke] = np.clip(
            np.asarray(INKS[ink]) + np.random.default_rng(0).normal(0, 6, (stroke.sum(), 3)), 0, 255
        )
        found = find_tissue(pixels, at_8(pixels), SPEC)
        assert "pen_marks" in found.flags
        assert found.mask[stroke].mean() < 0.1
        assert dice(found.mask, inside) > 0.95

    def test_dark_nuclei_and_red_eosin_are_no_ink(self):
        for colour in ((75, 45, 110), (60, 35, 95), (225, 110, 150), (190, 70, 110)):
            pixels, inside = stained()
            pixels[inside] = colour
            found = find_tissue(pixels, at_8(pixels), SPEC)
            assert "pen_marks" not in found.flags, colour
            assert dice(found.mask, inside) > 0.95

    def test_a_black_border_is_removed(self):
        pixels, inside = stained()
        pixels[:, :25] = 4
        pixels[-15:] = 4
        found = find_tissue(pixels, at_8(pixels), SPEC)
        assert not found.mask[:, :24].any()
        assert not found.mask[-14:].any()
        assert dice(found.mask, inside) > 0.95

    def test_a_wide_black_surround_does_not_hide_the_tissue(self):
        pixels, inside = stained()
        wide = np.full((500, 700, 3), 3, np.uint8)
        wide[100:400, 150:550] = pixels
        whole = np.zeros((500, 700), bool)
        whole[100:400, 150:550] = inside
        assert dice(find_tissue(wide, at_8(wide), SPEC).mask, whole) > 0.95

    def test_a_slide_with_almost_only_ink_is_flagged(self):
        pixels = glass()
        pixels[50:250, 50:350] = INKS["green"]
        assert {"no_tissue", "pen_marks", "tissue_mostly_rejected"} <= set(
            find_tissue(pixels, at_8(pixels), SPEC).flags
        )


class TestRealSlides:
    def test_the_aperio_slide(self, shared_data):
        """Its thumbnail shows a strip of tissue from top to bottom, and glass on both sides."""
        reader = open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs")
        frame = reader.info.frame.at(8)
        found = find_tissue(reader.read(frame.box, 8), frame, SPEC)
        reader.close()
        assert 0.6 < found.area_mm2 < 0.8
        assert found.flags == ()
        assert not found.mask[:50, :40].any()
        assert found.mask[130:170, 45:60].all()

    @pytest.mark.parametrize("name", ["1008", "1015"])
    def test_regions_cut_from_tissue_are_all_tissue(self, shared_data, name):
        pixels = np.asarray(Image.open(shared_data / "bcss" / "images" / f"{name}.jpg").reduce(32))
        assert find_tissue(pixels, at_8(pixels), SPEC).mask.mean() > 0.98

    @pytest.mark.parametrize("strength", [1.0, 0.3, 0.15])
    def test_a_real_region_on_glass_is_found(self, shared_data, strength):
        """It is found with 100, 30 and 15 % of its stain."""
        region = np.asarray(Image.open(shared_data / "bcss" / "images" / "1015.jpg").reduce(32))
        region = GLASS * (np.minimum(region, GLASS) / GLASS) ** strength
        pixels = glass(300, 400)
        inside = np.zeros((300, 400), bool)
        inside[100 : 100 + region.shape[0], 120 : 120 + region.shape[1]] = True
        pixels[inside] = region.reshape(-1, 3)
        assert dice(find_tissue(pixels, at_8(pixels), SPEC).mask, inside) > 0.95


def test_the_largest_slide_takes_seconds_and_less_than_200_mb():
    """The thumbnail of 100,000 x 80,000 px at 0.25 um/px."""
    pixels = np.tile(stained()[0], (9, 8, 1))[:2500, :3125]
    tracemalloc.start()
    start = time.perf_counter()
    find_tissue(pixels, at_8(pixels), SPEC)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert seconds < 20  # about 4 on one of two busy cores
