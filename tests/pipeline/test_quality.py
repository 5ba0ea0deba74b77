"""Quality flags: each on pixels that must raise it and on pixels that must not."""

import io
import itertools
import json

import numpy as np
import pytest
import standins
from PIL import Image
from scipy import ndimage

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.models.folder import find_model
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.normalize import predictor_for_slide, stain_amounts
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.quality import MIN_SHARPNESS, BlockStats, CoreCount, SlideQuality, sharpness
from noctile.pipeline.segment import segment_block
from noctile.pipeline.slides.open import open_slide

SIDE = 384  # px at 0.5 um: the core of the shipped model's tiles
WELL = SlideQuality(0.0, 0.0, 0.01)


@pytest.fixture(scope="module")
def real(shared_data) -> dict[str, np.ndarray]:
    """Real tissue at 0.5 um/px, from three sources."""
    tissue = {n: shared_data / "bcss" / "images" / f"{n}.jpg" for n in ("1008", "1015")}
    pixels = {
        n: np.asarray(Image.open(path).convert("RGB").reduce(2)) for n, path in tissue.items()
    }
    reader = open_slide(shared_data / "slides" / "CMU-1-Small-Region.svs")
    pixels["CMU-1"] = reader.read(Box(500, 600, 1200, 800), 0.5)
    reader.close()
    return pixels


@pytest.fixture(scope="module")
def model():
    """The shipped model."""
    return load_predictor(find_model("tumor"), "cpu")


def blurred(pixels: np.ndarray, sigma_um: float, quality: int = 75) -> np.ndarray:
    """Put pixels out of focus by ``sigma_um``, and add the noise of a camera and of JPEG."""
    soft = ndimage.gaussian_filter(pixels.astype(float), (sigma_um / 0.5, sigma_um / 0.5, 0))
    noisy = soft + np.random.default_rng(0).normal(0, 2, (*pixels.shape[:2], 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def of_cores(pixels: np.ndarray, mpp: float = 0.5) -> list[float | None]:
    """Sharpness of all squares of a core's size."""
    everywhere = np.ones((SIDE, SIDE), bool)
    corners = itertools.product(*(range(0, n - SIDE + 1, SIDE) for n in pixels.shape[:2]))
    return [sharpness(pixels[y : y + SIDE, x : x + SIDE], everywhere, mpp) for y, x in corners]


class TestFocus:
    @pytest.mark.parametrize("name", ["1008", "1015", "CMU-1"])
    def test_real_tissue_is_sharp_and_loses_that_when_it_is_blurred(self, real, name):
        values = of_cores(real[name])
        assert len(values) >= 6
        assert min(values) > 1.2 * MIN_SHARPNESS
        for sigma_um, quality in itertools.product((1.5, 3), (30, 75)):
            assert max(of_cores(blurred(real[name], sigma_um, quality))) < MIN_SHARPNESS

    def test_it_hardly_depends_on_the_strength_of_the_stain(self, real):
        pale = (255 * (np.maximum(real["1008"], 1) / 255) ** 0.3).astype(np.uint8)
        assert np.median(of_cores(pale)) == pytest.approx(
            np.median(of_cores(real["1008"])), rel=0.35
        )

    def test_only_tissue_counts(self, real):
        pixels = np.full((SIDE, SIDE, 3), 243, np.uint8)
        pixels[:, :200] = real["1015"][:SIDE, :200]
        tissue = np.zeros((SIDE, SIDE), bool)
        tissue[:, :196] = True
        alone = sharpness(pixels[:, :196], tissue[:, :196], 0.5)
        assert sharpness(pixels, tissue, 0.5) == pytest.approx(alone, rel=0.01)

    def test_little_tissue_and_flat_colour_have_no_sharpness(self):
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        few = np.zeros((SIDE, SIDE), bool)
        few[:100, :100] = True
        assert sharpness(noise, few, 0.5) is None
        assert sharpness(np.full_like(noise, 200), np.ones_like(few), 0.5) is None
        assert sharpness(noise[:1], few[:1], 0.5) is None
        assert sharpness(noise, ~few, 0.5) > 1


def segmented(
    pixels: np.ndarray,
    predict,
    *,
    overlap_px: int,
    mpp: float = 0.5,
    batch: int = 4,
    block_px: int = 4096,
):
    """Statistics of the blocks of a region that is tissue everywhere."""
    slide = standins.ArraySlide(pixels, mpp)
    tissue = standins.TissueMask(np.ones((1, 1), bool), Frame(Extent(1, 1), 1e4, 1e4), "", ())
    tiling = Tiling(
        mpp, predict.card.tile_px, overlap_px, "crop", block_px, len(predict.card.classes)
    )
    plan = plan_tiles("s", slide.info.frame, tissue, tiling)
    return [
        segment_block(slide, plan, block, tissue, predict, batch).stats for block in plan.blocks
    ]


class TestTheShippedModel:
    """The shipped model on regions of real slides, and on the same regions made worse."""

    def test_its_overlap_raises_no_flag_for_seams_and_a_small_overlap_does(self, real, model):
        region = real["1008"][:700, :700]
        model = predictor_for_slide(model, stain_amounts([region]))
        well = SlideQuality.from_blocks(segmented(region, model, overlap_px=128))
        assert (well.blurred_fraction, well.flags(0.9, 2)) == (0.0, [])
        assert 0 < well.seam_disagreement < 0.04
        assert "seams" in SlideQuality.from_blocks(segmented(region, model, overlap_px=8)).flags(
            0.9, 2
        )

    def test_a_region_out_of_focus_is_blurred(self, real, model):
        region = blurred(real["1015"][:400, :400], 2)
        spoilt = SlideQuality.from_blocks(
            segmented(region, predictor_for_slide(model, stain_amounts([region])), overlap_px=128)
        )
        assert (spoilt.blurred_fraction, "blurred" in spoilt.flags(0.9, 2)) == (1.0, True)


class TestSamples:
    PIXELS = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)

    def test_focus_is_measured_on_the_same_tiles_for_any_batch_and_block(self):
        net = standins.ConstantNet(standins.card(128, 32), [0.2, 0.5, 0.3])
        counts = {
            sum(
                f.focus_tiles
                for f in segmented(
                    self.PIXELS, net, overlap_px=32, mpp=1.0, batch=batch, block_px=block_px
                )
            )
            for batch, block_px in itertools.product((1, 5), (192, 480, 4096))
        }
        assert len(counts) == 1
        assert 32 <= counts.pop() <= 80

    def test_a_large_slide_takes_no_more_samples_than_a_small_one(self):
        net = standins.ConstantNet(standins.card(), [0.2, 0.5, 0.3])
        pixels = np.random.default_rng(0).integers(0, 256, (2400, 2400, 3), np.uint8)
        (stats,) = segmented(pixels, net, overlap_px=16, mpp=1.0)
        assert stats.focus_tiles == 0  # a core of 48 px is too small to judge
        net = standins.ConstantNet(standins.card(96), [0.2, 0.5, 0.3])
        (stats,) = segmented(pixels, net, overlap_px=16, mpp=1.0)
        assert 32 <= stats.focus_tiles <= 80


class TestFlags:
    def test_a_good_slide_raises_no_flag(self):
        assert WELL.flags(0.9, 2) == []
        assert SlideQuality(0.0, None, None).flags(None, 2) == []  # a slide without tissue
        assert WELL.flags(1.0, 1) == []  # a model of one class is always sure

    @pytest.mark.parametrize(
        ("quality", "confidence", "flag"),
        [
            (SlideQuality(1e-9, 0.0, 0.0), 0.9, "unreadable_tissue"),
            (SlideQuality(0.0, 0.26, 0.0), 0.9, "blurred"),
            (SlideQuality(0.0, 0.0, 0.051), 0.9, "seams"),
            (WELL, 0.79, "low_confidence"),
        ],
    )
    def test_each_flag_is_raised_by_its_own_figure(self, quality, confidence, flag):
        assert quality.flags(confidence, 2) == [flag]

    def test_a_low_confidence_is_low_compared_with_a_guess(self):
        assert WELL.flags(0.65, 21) == []
        assert WELL.flags(0.65, 2) == ["low_confidence"]
        assert WELL.flags(0.60, 21) == ["low_confidence"]


class TestBlockStats:
    BLOCKS = (
        BlockStats(900, 50, 1, ((0, 3), (2, 1)), 100, 4, 1),
        BlockStats(1000, 50, 4, (), 0, 4, 2, (CoreCount(1, 2, (700, 300), 255_000),)),
        BlockStats(0, 0, 0, ((9, 9),), 0),
    )

    def test_statistics_are_the_same_after_json(self):
        for stats in self.BLOCKS:
            assert BlockStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats

    def test_blocks_add_up_in_any_order(self):
        assert {
            SlideQuality.from_blocks(order) for order in itertools.permutations(self.BLOCKS)
        } == {SlideQuality(100 / 2000, 3 / 8, 5 / 100)}

    def test_a_slide_without_blocks_has_read_everything(self):
        assert SlideQuality.from_blocks([]) == SlideQuality(0.0, None, None)
