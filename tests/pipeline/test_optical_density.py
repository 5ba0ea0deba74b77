import numpy as np
import pytest

from noctile.pipeline.optical_density import (
    by_strips,
    density_of,
    density_table,
    largest,
    mean,
    smallest,
    spread,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (300, 257, 3), np.uint8)


def test_an_image_taken_in_strips_gives_the_result_of_the_whole_image():
    planes = np.moveaxis(IMAGE, -1, 0)
    assert (by_strips(IMAGE, spread) == np.ptp(planes, axis=0)).all()


def test_an_image_wider_than_a_strip_is_taken_row_by_row():
    wide = np.random.default_rng(1).integers(0, 256, (3, 40_000, 3), np.uint8)
    assert (by_strips(wide, smallest) == wide.min(axis=-1)).all()


def test_the_statistics_are_those_of_the_three_channels():
    planes = np.moveaxis(IMAGE, -1, 0)
    assert (smallest(planes) == planes.min(axis=0)).all()
    assert (largest(planes) == planes.max(axis=0)).all()
    np.testing.assert_allclose(mean(planes.astype(np.float32)), IMAGE.mean(axis=-1), rtol=1e-6)


def test_glass_has_no_density_and_a_tenth_of_the_light_has_density_one():
    table = density_table(np.array([249, 249, 249], np.float32))
    assert table[249].tolist() == table[255].tolist() == [0, 0, 0]
    assert table[24] == pytest.approx([1, 1, 1])


def test_each_channel_is_looked_up_in_its_own_column():
    table = density_table(np.array([255, 200, 100], np.float32))
    density = density_of(np.full((3, 2, 2), 50, np.uint8), table)
    expected = np.log10(np.array([256, 201, 101]) / 51)
    assert density[:, 1, 1] == pytest.approx(expected, rel=1e-5)
