"""A region is predicted as a run predicts it, and its pixels are counted."""

import numpy as np
import pytest
import torch
from metric_inputs import pixels, region
from standins import ArraySlide, ConstantNet, PositionNet, card, tissue_of

from noctile.pipeline.metrics.region_counts import BLOCK_PX, classes_and_confidence, count_region
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.segment import segment_block
from noctile.pipeline.truth.region import LabelledPixels
from noctile.pipeline.truth.scheme import IGNORED


class TestCountRegion:
    @pytest.mark.parametrize(("tile_px", "overlap_px"), [(64, 16), (64, 0), (128, 32)])
    def test_its_classes_are_those_of_a_run(self, tile_px: int, overlap_px: int) -> None:
        predict = PositionNet(card(tile_px, overlap_px))
        known = pixels(150, 93, 3)
        _, labels = count_region(region(), known, predict, range(3), 3, 3)
        slide = ArraySlide(known.rgb)
        tissue = tissue_of(np.ones((20, 13), bool))
        plan = plan_tiles(
            "s", slide.info.frame, tissue, Tiling(1.0, tile_px, overlap_px, "crop", 256, 3)
        )
        (block,) = plan.blocks
        mask = segment_block(slide, plan, block, tissue, predict, 8)
        codes = np.array([info.code for info in predict.card.classes], np.uint8)
        np.testing.assert_array_equal(codes[labels], mask.labels)
        assert len(np.unique(labels)) == 3

    def test_its_counts_are_those_of_its_classes_and_ignored_pixels_count_nowhere(self) -> None:
        known = pixels(150, 93, 3)
        found, labels = count_region(region(), known, PositionNet(card()), range(3), 3, 4)
        for row in range(3):
            for column in range(3):
                assert (
                    found.confusion[row, column]
                    == ((known.targets == row) & (labels == column)).sum()
                )
        assert found.bins[:, 0].sum() == found.confusion.sum() == (known.targets != IGNORED).sum()
        assert found.bins[:, 2].sum() == np.trace(found.confusion)

    def test_batches_change_nothing(self) -> None:
        known = pixels(150, 93, 3)
        one, labels = count_region(region(), known, PositionNet(card()), range(3), 3, 1)
        many, same = count_region(region(), known, PositionNet(card()), range(3), 3, 64)
        np.testing.assert_array_equal(labels, same)
        np.testing.assert_allclose(one.bins, many.bins)

    def test_its_blocks_add_up(self) -> None:
        known = pixels(BLOCK_PX + 40, BLOCK_PX * 2, 2)
        found, _ = count_region(region(), known, PositionNet(card(256, 0, 2)), range(2), 2, 4)
        assert found.blocks.shape == (4, 2, 2)
        np.testing.assert_array_equal(found.blocks.sum(axis=0), found.confusion)

    def test_its_stain_is_the_mean_of_what_is_not_glass(self) -> None:
        rgb = np.full((64, 64, 3), 245, np.uint8)
        rgb[:, :16] = (180, 90, 160)
        known = LabelledPixels(rgb, np.zeros((64, 64), np.uint8), 1.0)
        found, _ = count_region(
            region(), known, ConstantNet(card(classes=2), [1, 0]), range(2), 2, 4
        )
        assert found.stain == (180, 90, 160)


class TestClassesAndConfidence:
    probabilities = np.array([0.3, 0.25, 0.4, 0.05], np.float32).reshape(1, 4, 1, 1)

    def test_the_most_probable_class_wins_and_the_first_of_equals(self) -> None:
        labels, sure = classes_and_confidence(self.probabilities, range(4))
        assert (labels.item(), sure.item()) == (2, pytest.approx(0.4))
        assert (
            classes_and_confidence(np.full((1, 3, 1, 1), 1 / 3, np.float32), range(3))[0].item()
            == 0
        )

    def test_it_counts_as_its_group_with_the_probability_of_the_group(self) -> None:
        labels, sure = classes_and_confidence(self.probabilities, [0, 0, 1, 1])
        assert (labels.item(), sure.item()) == (1, pytest.approx(0.45))

    @pytest.mark.parametrize("groups", [[0, 1, 2, 3], [1, 0, 0, 2]])
    def test_torch_and_numpy_agree(self, groups: list[int]) -> None:
        probabilities = (
            np.random.default_rng(0)
            .dirichlet(np.ones(4), (2, 8, 8))
            .transpose(0, 3, 1, 2)
            .astype(np.float32)
        )
        for one, other in zip(
            classes_and_confidence(probabilities, groups),
            classes_and_confidence(torch.from_numpy(probabilities), groups),
            strict=True,
        ):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
