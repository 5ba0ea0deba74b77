"""Two label maps, read block by block on one grid."""

import numpy as np
import pytest
from damaged_results import edit
from label_results import BLOCK_PX, write_result

from noctile.pipeline.errors import StoreError
from noctile.workflows.commands import diff_pixels
from noctile.workflows.commands.diff_pixels import CommonGrid, DiffSide

RNG = np.random.default_rng(0)


def random_labels(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 3, (height, width)).astype(np.uint8)


def joined(grid: CommonGrid, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for block in grid.blocks():
        assert max(block.a.shape) <= BLOCK_PX
        a[block.box.slices()], b[block.box.slices()] = block.a, block.b
    return a, b


def sides(tmp_path, a, b, about_a=None, about_b=None) -> tuple[DiffSide, DiffSide]:
    return (
        DiffSide(write_result(tmp_path / "a", a, **(about_a or {}))),
        DiffSide(write_result(tmp_path / "b", b, **(about_b or {}))),
    )


def test_equal_frames_give_the_labels_themselves(tmp_path):
    a, b = random_labels(200, 150), random_labels(200, 150)
    grid = CommonGrid(*sides(tmp_path, a, b), "level0")
    assert grid.a_is_grid
    for found, labels in zip(joined(grid, a.shape), (a, b), strict=True):
        assert (found == labels).all()
    assert grid.outside_px() == 0


@pytest.mark.parametrize("most_px", [2**26, 2000])
@pytest.mark.parametrize("a_is_fine", [True, False])
def test_the_coarser_label_map_gives_the_grid(tmp_path, monkeypatch, most_px, a_is_fine):
    """In strips too, which bound the memory of a much finer label map."""
    monkeypatch.setattr(diff_pixels, "_READ_PX", most_px)
    coarse, fine = random_labels(130, 120), random_labels(260, 240)
    pair = [(coarse, {"mpp": 0.5}), (fine, {"mpp": 0.25})]
    (a, about_a), (b, about_b) = pair[::-1] if a_is_fine else pair
    grid = CommonGrid(*sides(tmp_path, a, b, about_a, about_b), "level0")
    assert grid.a_is_grid != a_is_fine
    found = joined(grid, coarse.shape)
    own, under = found[::-1] if a_is_fine else found
    assert (own == coarse).all()
    assert (under == fine[1::2, 1::2]).all()


def test_bounds_are_added_for_the_same_file_alone(tmp_path):
    """The region of b lies 20 label-map pixels below and 10 to the right of that of a."""
    a, b = random_labels(150, 150), random_labels(150, 150)
    pair = sides(tmp_path, a, b, {"bounds": (40, 0)}, {"bounds": (80, 20)})
    under = joined(CommonGrid(*pair, "level0"), a.shape)[1]
    assert (under[20:, 10:] == b[:-20, :-10]).all()
    assert not under[:20].any()
    assert not under[:, :10].any()
    outside = CommonGrid(*pair, "level0").outside_px()
    assert outside == (b > 0).sum() - (b[:-20, :-10] > 0).sum()
    assert (joined(CommonGrid(*pair, "physical"), a.shape)[1] == b).all()


def test_labels_on_one_side_alone_are_read(tmp_path):
    a, b = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    a[10, 10], b[150, 150] = 1, 2
    grid = CommonGrid(*sides(tmp_path, a, b), "level0")
    assert [block.box.y for block in grid.blocks()] == [0, 96]
    found = joined(grid, a.shape)
    assert (found[0] == a).all()
    assert (found[1] == b).all()


def test_damaged_results_are_named(tmp_path):
    folder = write_result(tmp_path / "a", random_labels(50, 50))
    edit(folder / "summary.json", mpp=[0.0, 0.0])
    with pytest.raises(StoreError, match=r"summary.json has \d+ bytes"):
        DiffSide(folder)
    (folder / "tissue.png").unlink()
    with pytest.raises(StoreError, match=r"tissue\.png is missing"):
        DiffSide(folder)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(StoreError, match="is a link"):
        DiffSide(tmp_path / "link")
