"""The model without a network."""

import numpy as np
import pytest

from noctile.pipeline.errors import ModelError
from noctile.pipeline.models.folder import make_card
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.models.threshold import ThresholdConfig, ThresholdPredictor, save_threshold

CLASSES = [
    {"code": k + 1, "name": name, "color": (0, 0, 0), "role": "tissue"}
    for k, name in enumerate(("light", "mid", "dark"))
]
FIELDS = {
    "name": "dark",
    "description": "",
    "classes": CLASSES,
    "licence": "CC0-1.0",
    "mpp": 1.0,
    "tile_px": 32,
    "overlap_px": 8,
}


def predictor(**config):
    return ThresholdPredictor(make_card(FIELDS, "0" * 64), ThresholdConfig(**config))


def grey(*values: int) -> np.ndarray:
    tiles = np.zeros((1, 32, 32, 3), np.uint8)
    for i, value in enumerate(values):
        tiles[0, 0, i] = value
    return tiles


def test_classes_go_from_light_to_dark():
    p = predictor(thresholds_od=(0.2, 0.8))(grey(250, 100, 5))
    assert p[0, :, 0, :3].argmax(axis=0).tolist() == [0, 1, 2]


def test_at_a_threshold_both_classes_are_equally_likely():
    # 256 / (value + 1) = 2 at 127: optical density 0.301
    p = predictor(thresholds_od=(0.301, 1.5), softness_od=0.01)(grey(127))
    np.testing.assert_allclose(p[0, :, 0, 0], (0.5, 0.5, 0), atol=1e-6)


def test_probabilities_follow_a_logistic_curve():
    p = predictor(thresholds_od=(0.201, 2.0), softness_od=0.1)(grey(127))
    assert p[0, 1, 0, 0] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-6)


def test_optical_density_is_the_mean_over_the_channels():
    tiles = grey(0)
    tiles[0, 0, 0] = (255, 255, 25)  # densities 0, 0 and log10(256 / 26) = 0.993
    low, high = predictor(thresholds_od=(0.330, 2.0)), predictor(thresholds_od=(0.332, 2.0))
    assert low(tiles)[0, 1, 0, 0] > 0.5 > high(tiles)[0, 1, 0, 0]


def test_probabilities_of_every_color_add_up_to_one():
    values = np.arange(256, dtype=np.uint8)
    tiles = np.stack(
        [np.resize(values, (32, 32)), np.resize(values[::-1], (32, 32)), np.full((32, 32), 9)],
        axis=-1,
    )
    p = predictor(thresholds_od=(0.1, 0.11), softness_od=0.001)(tiles[None].astype(np.uint8))
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert p.min() >= 0


def test_a_saved_model_gives_the_same_probabilities(tmp_path):
    config = ThresholdConfig(thresholds_od=(0.2, 0.8), softness_od=0.1)
    card = save_threshold(tmp_path / "model", config, FIELDS)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    loaded = load_predictor(tmp_path / "model")
    assert loaded.card == card
    assert np.array_equal(loaded(tiles), ThresholdPredictor(card, config)(tiles))


def test_a_changed_threshold_is_noticed(tmp_path):
    save_threshold(tmp_path, ThresholdConfig(thresholds_od=(0.2, 0.8)), FIELDS)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("0.8", "0.9"))
    with pytest.raises(ModelError, match=r"config\.json does not belong to its card"):
        load_predictor(tmp_path)


@pytest.mark.parametrize("thresholds", [(), (0.3,), (0.1, 0.2, 0.3)])
def test_there_is_one_threshold_between_neighbouring_classes(tmp_path, thresholds):
    with pytest.raises(ModelError, match=f"3 classes and {len(thresholds)} thresholds_od"):
        save_threshold(tmp_path / "model", ThresholdConfig(thresholds_od=thresholds), FIELDS)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"thresholds_od": (0.8, 0.2)},
        {"thresholds_od": (0.2, 0.2)},
        {"thresholds_od": (0.2, float("nan"))},
        {"thresholds_od": (0.2, 3.0)},
        {"thresholds_od": (0.2, 0.8), "softness_od": 0},
        {"thresholds_od": (0.2, 0.8), "softness": 0.1},
    ],
)
def test_meaningless_thresholds_are_refused(config):
    with pytest.raises(ValueError, match="validation error"):
        ThresholdConfig(**config)
