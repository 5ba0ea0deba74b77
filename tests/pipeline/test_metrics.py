"""Counts, figures, intervals and calibration: against hand examples and independent counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from standins import ArraySlide, ConstantNet, PositionNet, card, tissue_of

from noctile.pipeline.metrics import (
    BLOCK_PX,
    METRICS,
    N_BINS,
    Measurement,
    RegionScore,
    bootstrap,
    calibration,
    coarser,
    decide,
    figures,
    merged,
    score_region,
)
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import Tiling, plan_tiles
from noctile.pipeline.segment import segment_block
from noctile.pipeline.truth.region import LabelledPixels, Region
from noctile.pipeline.truth.scheme import BUILT_IN, IGNORED


def region(name: str = "r", patient: str = "p", institute: str = "", source: str = "s") -> Region:
    return Region(name, patient, institute, source, image=None, truth=None)


def score(confusion, name: str = "r", patient: str = "p", blocks=None, **about: str) -> RegionScore:
    confusion = np.asarray(confusion, np.int64)
    blocks = confusion[None] if blocks is None else np.asarray(blocks, np.int64)
    return RegionScore(
        region(name, patient, **about), confusion, np.zeros((N_BINS, 3)), blocks, (200, 150, 180)
    )


def classes(*roles: str) -> tuple[ClassInfo, ...]:
    return tuple(
        ClassInfo(code=k + 1, name=f"c{k}", color=(k, 0, 0), role=role)
        for k, role in enumerate(roles)
    )


def pixels(height: int, width: int, n: int, seed: int = 0) -> LabelledPixels:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n + 1, (height, width)).astype(np.uint8)
    targets[targets == n] = IGNORED
    return LabelledPixels(rng.integers(0, 256, (height, width, 3), np.uint8), targets, 1.0)


class TestFigures:
    def test_a_hand_example(self) -> None:
        found = figures(np.array([[6, 2], [1, 3]]), [True, True])
        assert found.accuracy == pytest.approx(9 / 12)
        assert found.precision == pytest.approx([6 / 7, 3 / 5])
        assert found.recall == pytest.approx([6 / 8, 3 / 4])
        assert found.f1 == pytest.approx([12 / 15, 6 / 9])
        assert found.iou == pytest.approx([6 / 9, 3 / 6])
        assert found.mean("iou") == pytest.approx((6 / 9 + 3 / 6) / 2)

    @pytest.mark.parametrize("n", [2, 5, 21])
    def test_they_are_what_an_independent_count_of_pixels_gives(self, n: int) -> None:
        rng = np.random.default_rng(n)
        truth = rng.integers(0, n, 4000)
        answer = np.where(rng.random(4000) < 0.6, truth, rng.integers(0, n, 4000))
        confusion = np.zeros((n, n), np.int64)
        np.add.at(confusion, (truth, answer), 1)
        found = figures(confusion, [True] * n)
        assert found.accuracy == pytest.approx(float((truth == answer).mean()))
        for k in range(n):
            here, there = set(np.flatnonzero(truth == k)), set(np.flatnonzero(answer == k))
            both = len(here & there)
            expected = (
                both / len(there),
                both / len(here),
                2 * both / (len(here) + len(there)),
                both / len(here | there),
            )
            assert [found.of(metric)[k] for metric in METRICS] == pytest.approx(expected)
            assert found.dice[k] == pytest.approx(expected[2])

    @given(st.lists(st.integers(0, 10_000), min_size=16, max_size=16))
    def test_f1_is_the_harmonic_mean_of_its_own_precision_and_recall(
        self, counts: list[int]
    ) -> None:
        found = figures(np.reshape(counts, (4, 4)), [True] * 4)
        for p, r, f1 in zip(found.precision, found.recall, found.f1, strict=True):
            if math.isnan(r):
                assert math.isnan(p)
                assert math.isnan(f1)
            else:
                assert f1 == pytest.approx(2 * p * r / (p + r) if p + r else 0)

    def test_many_matrices_at_once_give_what_each_gives_alone(self) -> None:
        many = np.random.default_rng(0).integers(0, 50, (3, 4, 5, 5))
        many[1, 2, 3] = 0
        counted = [True, True, False, True, True]
        together = figures(many, counted)
        for place in np.ndindex(3, 4):
            alone = figures(many[place], counted)
            assert together.accuracy[place] == alone.accuracy
            for metric in METRICS:
                np.testing.assert_array_equal(together.of(metric)[place], alone.of(metric))
                assert together.mean(metric)[place] == pytest.approx(float(alone.mean(metric)))

    def test_true_negatives_do_not_make_the_accuracy_look_good(self) -> None:
        wrong = np.roll(np.eye(21, dtype=np.int64), 1, axis=1)
        assert figures(wrong, [True] * 21).accuracy == 0

    def test_a_class_that_is_never_predicted_has_precision_0_and_one_not_in_the_truth_is_in_no_mean(
        self,
    ) -> None:
        found = figures(np.array([[8, 0, 2], [4, 0, 0], [0, 0, 0]]), [True] * 3)
        assert found.precision[1] == found.recall[1] == found.f1[1] == 0
        assert all(math.isnan(found.of(metric)[2]) for metric in METRICS)
        assert found.mean("recall") == pytest.approx((0.8 + 0) / 2)

    def test_a_class_with_the_role_ignore_is_in_accuracy_and_matrix_and_outside_of_the_means(
        self,
    ) -> None:
        confusion = np.array([[8, 0, 2], [0, 10, 0], [3, 3, 4]])
        found = Measurement(
            classes("tumor", "tissue", "ignore"), (score(confusion),)
        ).figures.pooled
        assert found.accuracy == pytest.approx(22 / 30)
        assert found.recall == pytest.approx([0.8, 1, 0.4])
        assert found.mean("recall") == pytest.approx(0.9)
        assert found.precision[0] == pytest.approx(8 / 11)

    def test_mean_f1_is_the_mean_of_f1_and_not_made_of_mean_precision_and_recall(self) -> None:
        found = figures(np.array([[90, 10], [40, 10]]), [True, True])
        p, r = found.mean("precision"), found.mean("recall")
        assert found.mean("f1") == pytest.approx(float(found.f1.mean()))
        assert found.mean("f1") != pytest.approx(float(2 * p * r / (p + r)), abs=1e-3)

    def test_where_nothing_is_known_there_is_no_figure(self) -> None:
        found = figures(np.zeros((3, 3), np.int64), [True] * 3)
        assert math.isnan(found.accuracy)
        assert math.isnan(found.mean("f1"))


class TestCoarserClasses:
    def test_merged_adds_up_drops_ignored_truth_and_counts_ignored_answers_as_wrong(self) -> None:
        confusion = np.arange(16).reshape(4, 4)
        found = merged(confusion, [0, 0, 1, IGNORED])
        assert found.tolist() == [[0 + 1 + 4 + 5, 2 + 6, 3 + 7], [8 + 9, 10, 11], [0, 0, 0]]

    def test_bcss21_is_part_of_bcss5_and_tumor_is_not(self) -> None:
        groups = coarser(BUILT_IN["bcss21"], BUILT_IN["bcss5"])
        named = dict(zip((info.name for info in BUILT_IN["bcss21"].classes), groups, strict=True))
        assert [k for k, group in named.items() if group == 0] == ["tumor", "angioinvasion", "dcis"]
        assert (named["plasma_cells"], named["necrosis_or_debris"], named["fat"]) == (2, 3, 4)
        assert named["exclude"] == named["undetermined"] == IGNORED
        assert coarser(BUILT_IN["bcss5"], BUILT_IN["bcss5"]) == [0, 1, 2, 3, 4]
        assert coarser(BUILT_IN["tumor"], BUILT_IN["bcss5"]) is None

    def test_tumor_against_the_rest_pools_all_classes_with_that_role(self) -> None:
        confusion = [[5, 3, 2], [0, 8, 2], [1, 1, 8]]
        tumor = Measurement(classes("tumor", "tissue", "tumor"), (score(confusion),)).tumor.pooled
        assert tumor.recall[0] == pytest.approx((5 + 2 + 1 + 8) / 20)
        assert tumor.precision[0] == pytest.approx(16 / 18)
        assert Measurement(classes("tissue", "tissue"), (score([[1, 0], [0, 1]]),)).tumor is None


class TestIntervals:
    def test_each_draw_is_as_many_whole_units(self) -> None:
        units = np.zeros((4, 3, 3), np.int64)
        units[np.arange(4), [0, 1, 2, 2], [0, 1, 2, 0]] = 1000
        drawn = bootstrap(units, resamples=50)
        assert drawn.shape == (50, 3, 3)
        assert (drawn.sum(axis=(1, 2)) == 4000).all()
        assert (drawn % 1000 == 0).all()
        assert len({draw.tobytes() for draw in drawn}) > 10
        assert np.array_equal(drawn, bootstrap(units, resamples=50))
        assert not np.array_equal(drawn, bootstrap(units, resamples=50, seed=1))

    def test_the_interval_of_a_share_is_that_of_the_binomial_distribution(self) -> None:
        right, wrong = [[1, 0], [0, 0]], [[0, 1], [0, 0]]
        scores = [score(right if k < 30 else wrong, f"r{k}", f"p{k}") for k in range(50)]
        found = Measurement(classes("tumor", "tissue"), tuple(scores)).figures.accuracy
        assert found.value == pytest.approx(0.6)
        assert (found.low, found.high) == pytest.approx(
            binom.ppf((0.025, 0.975), 50, 0.6) / 50, abs=0.021
        )

    def test_patients_are_drawn_not_regions(self) -> None:
        right, wrong = [[100, 0], [0, 100]], [[0, 100], [100, 0]]
        scores = [
            score(m, f"{p}{k}", p)
            for p, m in (("a", right), ("b", right), ("c", wrong))
            for k in range(40)
        ]
        measurement = Measurement(classes("tumor", "tissue"), tuple(scores))
        unit, drawn = measurement.units
        assert (unit, drawn.shape) == ("patient", (3, 2, 2))
        found = measurement.figures.accuracy
        assert (found.low, found.high) == (0, 1)

    def test_patients_that_are_all_alike_leave_nothing_to_chance(self) -> None:
        scores = tuple(score([[7, 3], [1, 9]], name, name) for name in "abcd")
        found = Measurement(classes("tumor", "tissue"), scores).figures.of_class("precision", 0)
        assert found.low == found.high == pytest.approx(found.value) == pytest.approx(7 / 8)

    def test_with_two_patients_blocks_are_drawn_and_with_two_blocks_nothing(self) -> None:
        blocks = [[[9, 1], [0, 9]], [[5, 5], [0, 9]], [[0, 0], [0, 0]]]
        two = tuple(score(np.sum(blocks, axis=0), name, name, blocks) for name in "ab")
        measurement = Measurement(classes("tumor", "tissue"), two)
        assert (measurement.units[0], len(measurement.units[1])) == ("block", 4)
        found = measurement.figures.of_class("recall", 0)
        assert found.value == pytest.approx(0.7)
        assert found.low < 0.6
        assert found.high > 0.8
        alone = Measurement(classes("tumor", "tissue"), two[:1])
        assert (alone.units[0], len(alone.units[1])) == ("none", 2)
        assert math.isnan(alone.figures.accuracy.low)

    def test_draws_without_a_class_say_nothing_of_it(self) -> None:
        rare, none = [[4, 6], [0, 10]], [[0, 0], [0, 10]]
        scores = tuple(score(rare if k == 0 else none, f"r{k}", f"p{k}") for k in range(6))
        found = Measurement(classes("tumor", "tissue"), scores).figures.of_class("recall", 0)
        assert found.low == found.high == pytest.approx(0.4)


class TestCalibration:
    def test_a_hand_example(self) -> None:
        bins = np.zeros((N_BINS, 3))
        bins[10], bins[14] = (100, 70, 50), (300, 294, 300)
        found = calibration(bins)
        assert found.ece == pytest.approx(0.25 * 0.2 + 0.75 * 0.02)
        assert (found.confidence[10], found.accuracy[10]) == pytest.approx((0.7, 0.5))
        assert math.isnan(found.accuracy[3])

    def test_a_model_that_always_says_70_percent_is_off_by_what_it_is_right_less_or_more(
        self,
    ) -> None:
        model = card(classes=3)
        known = pixels(100, 70, 3)
        found, _ = score_region(
            region(), known, ConstantNet(model, [0.2, 0.7, 0.1]), range(3), 3, 4
        )
        right = (known.targets == 1).sum() / (known.targets != IGNORED).sum()
        assert np.flatnonzero(found.bins[:, 0]).tolist() == [10]
        assert calibration(found.bins).ece == pytest.approx(0.7 - right, abs=1e-6)

    def test_full_confidence_is_in_the_last_bin(self) -> None:
        found, _ = score_region(
            region(), pixels(64, 64, 2), ConstantNet(card(classes=2), [1, 0]), range(2), 2, 4
        )
        assert np.flatnonzero(found.bins[:, 0]).tolist() == [N_BINS - 1]


class TestScoreRegion:
    @pytest.mark.parametrize(("tile_px", "overlap_px"), [(64, 16), (64, 0), (128, 32)])
    def test_its_classes_are_those_of_a_run(self, tile_px: int, overlap_px: int) -> None:
        predict = PositionNet(card(tile_px, overlap_px))
        known = pixels(150, 93, 3)
        _, labels = score_region(region(), known, predict, range(3), 3, 3)
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
        found, labels = score_region(region(), known, PositionNet(card()), range(3), 3, 4)
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
        one, labels = score_region(region(), known, PositionNet(card()), range(3), 3, 1)
        many, same = score_region(region(), known, PositionNet(card()), range(3), 3, 64)
        np.testing.assert_array_equal(labels, same)
        np.testing.assert_allclose(one.bins, many.bins)

    def test_its_blocks_add_up(self) -> None:
        known = pixels(BLOCK_PX + 40, BLOCK_PX * 2, 2)
        found, _ = score_region(region(), known, PositionNet(card(256, 0, 2)), range(2), 2, 4)
        assert found.blocks.shape == (4, 2, 2)
        np.testing.assert_array_equal(found.blocks.sum(axis=0), found.confusion)

    def test_its_stain_is_the_mean_of_what_is_not_glass(self) -> None:
        rgb = np.full((64, 64, 3), 245, np.uint8)
        rgb[:, :16] = (180, 90, 160)
        known = LabelledPixels(rgb, np.zeros((64, 64), np.uint8), 1.0)
        found, _ = score_region(
            region(), known, ConstantNet(card(classes=2), [1, 0]), range(2), 2, 4
        )
        assert found.stain == (180, 90, 160)


class TestDecide:
    probabilities = np.array([0.3, 0.25, 0.4, 0.05], np.float32).reshape(1, 4, 1, 1)

    def test_the_most_probable_class_wins_and_the_first_of_equals(self) -> None:
        labels, sure = decide(self.probabilities, range(4))
        assert (labels.item(), sure.item()) == (2, pytest.approx(0.4))
        assert decide(np.full((1, 3, 1, 1), 1 / 3, np.float32), range(3))[0].item() == 0

    def test_it_counts_as_its_group_with_the_probability_of_the_group(self) -> None:
        labels, sure = decide(self.probabilities, [0, 0, 1, 1])
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
            decide(probabilities, groups),
            decide(torch.from_numpy(probabilities), groups),
            strict=True,
        ):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
