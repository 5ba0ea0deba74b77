"""The guided filter: what it keeps, what it moves, and that it answers for each tile alone."""

import numpy as np
import pytest
import torch

from pipeline.models.card import ModelCard
from pipeline.models.load import card_of
from pipeline.models.refine import RADIUS_UM, RefinedPredictor, guided
from pipeline.models.threshold import ThresholdConfig, ThresholdPredictor

SIDE = 64


def card(classes: int = 3, mpp: float = 0.5) -> ModelCard:
    kinds = [{"code": k + 1, "name": f"c{k}", "color": (k, k, k), "role": "tissue"} for k in range(classes)]
    fields = {"name": "small", "description": "", "classes": kinds, "licence": "CC0-1.0"}
    return card_of({**fields, "mpp": mpp, "tile_px": SIDE, "overlap_px": 16}, "0" * 64)


class Given:
    """A predictor that answers what it was given."""

    def __init__(self, probabilities: np.ndarray, mpp: float = 0.5) -> None:
        self.card, self._answer = card(probabilities.shape[1], mpp), probabilities

    def __call__(self, tiles: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._answer)


def step(at: int) -> np.ndarray:
    """float32 [1, 2, SIDE, SIDE]: the first class left of a column, the second right of it."""
    left = np.broadcast_to(np.arange(SIDE) < at, (SIDE, SIDE))
    return np.stack([left, ~left])[None].astype(np.float32)


def picture_of(at: int) -> np.ndarray:
    """A tile that is dark left of a column and light right of it."""
    tile = np.where(np.arange(SIDE) < at, 60, 220).astype(np.uint8)
    return np.broadcast_to(tile[None, None, :, None], (1, SIDE, SIDE, 3)).copy()


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predict() -> RefinedPredictor:
    return RefinedPredictor(ThresholdPredictor(card(), ThresholdConfig(thresholds_od=(0.15, 0.4))))


def test_it_is_a_predictor_of_the_same_card(predict: RefinedPredictor, tiles: np.ndarray) -> None:
    p = predict(tiles)
    assert predict.card.name == "small"
    assert (p.shape, p.dtype) == ((4, 3, SIDE, SIDE), torch.float32)
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(dim=1), 1, atol=1e-6)


def test_a_tile_has_one_answer_in_any_batch_and_place(predict: RefinedPredictor, tiles: np.ndarray) -> None:
    whole = predict(tiles)
    assert torch.equal(torch.cat([predict(tiles[i : i + 1]) for i in range(4)]), whole)
    assert torch.equal(predict(tiles[::-1]).flip(0), whole)
    assert not torch.equal(whole[0], whole[1])


def test_wrong_tiles_are_refused_as_the_predictor_does(predict: RefinedPredictor) -> None:
    with pytest.raises(ValueError, match=r"takes uint8 \[n, 64, 64, 3\]"):
        predict(np.zeros((1, SIDE, SIDE, 3), np.float32))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_even_probabilities_stay_as_they_are_whatever_the_picture(tiles: np.ndarray, value: float) -> None:
    even = np.full((1, 2, SIDE, SIDE), value, np.float32)
    even[:, 1] = 1 - value
    np.testing.assert_allclose(RefinedPredictor(Given(even))(tiles[:1]), even, atol=1e-5)


def test_a_boundary_on_an_edge_of_the_picture_stays_there() -> None:
    refined = RefinedPredictor(Given(step(30)))(picture_of(30))
    assert torch.equal(refined.argmax(dim=1), torch.from_numpy(step(30)).argmax(dim=1))


@pytest.mark.parametrize("beside", [-2, -1, 1, 2])
def test_a_boundary_beside_an_edge_moves_towards_it(beside: int) -> None:
    refined = RefinedPredictor(Given(step(30 + beside)))(picture_of(30))
    found = (refined.argmax(dim=1) == 0).sum(dim=2)
    assert (abs(found - 30) < abs(beside)).all()


def test_without_an_edge_in_the_picture_it_averages_twice() -> None:
    p = torch.from_numpy(step(30)[0])
    refined = guided(p, np.full((SIDE, SIDE, 3), 128, np.uint8), 2)
    ramp = np.convolve(np.convolve(step(30)[0, 0, 5], np.ones(5) / 5, "same"), np.ones(5) / 5, "same")
    np.testing.assert_allclose(refined[0, 5, 8:-8], ramp[8:-8], atol=1e-6)


def test_a_pixel_depends_on_what_lies_within_two_radii(tiles: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    one = rng.dirichlet((1, 1), (1, SIDE, SIDE)).transpose(0, 3, 1, 2).astype(np.float32)
    other = one.copy()
    other[:, :, :, 40:] = other[:, ::-1, :, 40:]
    a, b = (RefinedPredictor(Given(p))(tiles[:1]) for p in (one, other))
    reach = 2 * round(RADIUS_UM / 0.5)
    assert torch.equal(a[..., : 40 - reach], b[..., : 40 - reach])
    assert not torch.equal(a[..., : 41 - reach], b[..., : 41 - reach])
