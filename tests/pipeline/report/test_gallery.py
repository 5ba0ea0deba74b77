"""The gallery shows image, truth and prediction of each region."""

import io

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.report.gallery import MAX_SAMPLES, draw_gallery, shrink_sample
from noctile.pipeline.truth.region import LabelledPixels
from noctile.pipeline.truth.scheme import IGNORED

CLASSES = tuple(
    ClassInfo(code=k + 1, name=name, color=color, role="tissue")
    for k, (name, color) in enumerate(
        {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}.items()
    )
)


def halves(height: int, width: int) -> LabelledPixels:
    """Grey; the left half is class 0, the right is not scored."""
    targets = np.zeros((height, width), np.uint8)
    targets[:, width // 2 :] = IGNORED
    return LabelledPixels(np.full((height, width, 3), 77, np.uint8), targets, 0.5)


class TestGallery:
    def test_image_truth_and_prediction_stand_side_by_side_in_the_classes_colors(self) -> None:
        one = shrink_sample("r", "", halves(300, 300), np.ones((300, 300), np.uint8))
        picture = np.asarray(Image.open(io.BytesIO(draw_gallery([one], CLASSES))))
        wanted = [(77, 77, 77), (255, 0, 0), (0, 255, 0)]
        first = [np.flatnonzero((picture[150] == color).all(axis=1))[0] for color in wanted]
        assert first == sorted(first)
        areas = [(picture == color).all(axis=2).sum() for color in wanted]
        assert areas == pytest.approx([256 * 256, 256 * 128, 256 * 256], rel=0.02)

    def test_the_legend_names_only_visible_classes(self) -> None:
        one = shrink_sample("r", "", halves(64, 64), np.ones((64, 64), np.uint8))
        colors = {
            tuple(c)
            for c in np.asarray(Image.open(io.BytesIO(draw_gallery([one], CLASSES)))).reshape(-1, 3)
        }
        assert {(255, 0, 0), (0, 255, 0)} <= colors
        assert (0, 0, 255) not in colors

    def test_large_regions_are_reduced_and_keep_their_shape(self) -> None:
        one = shrink_sample("r", "", halves(2000, 4000), np.zeros((2000, 4000), np.uint8))
        assert one.rgb.shape == (128, 256, 3)
        assert one.truth.shape == one.predicted.shape == (128, 256)
        assert (one.truth[:, :128] == 0).all()
        assert (one.truth[:, 128:] == IGNORED).all()

    @pytest.mark.parametrize("n", [1, 3, MAX_SAMPLES])
    def test_it_has_room_for_each_region_and_none_covers_another(self, n: int) -> None:
        samples = []
        for k in range(n):
            known = LabelledPixels(
                np.full((64, 64, 3), 100 + k, np.uint8), np.zeros((64, 64), np.uint8), 0.5
            )
            samples.append(
                shrink_sample("x" * 200, "99.9 % right", known, np.zeros((64, 64), np.uint8))
            )
        picture = np.asarray(Image.open(io.BytesIO(draw_gallery(samples, CLASSES))))
        for k in range(n):
            assert (picture == 100 + k).all(axis=2).sum() > 254 * 254
