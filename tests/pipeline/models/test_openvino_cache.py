"""The cache of compiled networks: a file is read as it was written, or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import trivial_model
from noctile.pipeline.models import openvino_cache
from noctile.pipeline.models.folder import read_card, read_config
from noctile.pipeline.models.load import load_predictor, modules_to_import

openvino = pytest.importorskip(
    "noctile.pipeline.models.openvino", reason="OpenVINO has no wheel for this system"
)

SIDE, CLASSES = 512, 5


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NOCTILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path) -> Path:
    return trivial_model(tmp_path / "model", CLASSES)


def tiles_of(n: int = 2) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def load(folder: Path):
    return load_predictor(folder, "cpu", threads=1, backend="openvino")


def conversions(monkeypatch) -> list[int]:
    """A list that grows with each conversion of a network."""
    found: list[int] = []
    convert = openvino.convert
    monkeypatch.setattr(openvino, "convert", lambda *a: (found.append(1), convert(*a))[1])
    return found


def test_the_second_load_converts_nothing_and_gives_the_same_bits(cache, model, monkeypatch):
    done = conversions(monkeypatch)
    first, second = (load(model)(tiles_of()) for _ in range(2))
    assert len(done) == 1
    np.testing.assert_array_equal(first, second)
    assert len(list(cache.iterdir())) == 1


def test_each_output_stage_is_compiled_once(cache, model, monkeypatch):
    done = conversions(monkeypatch)
    first = load(model)
    probabilities, labels = first(tiles_of()), first.predict_labels(tiles_of(), slice(None))
    assert len(done) == 1
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(openvino.OpenVinoPredictor, "_compiled", None)
    second = load(model)
    np.testing.assert_array_equal(second(tiles_of()), probabilities)
    again = second.predict_labels(tiles_of(), slice(None))
    for name in ("label", "tumor", "confidence"):
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))


def test_another_output_stage_of_a_cached_network_is_compiled(cache, model, monkeypatch):
    probabilities = load(model)(tiles_of())
    done = conversions(monkeypatch)
    labels = load(model).predict_labels(tiles_of(), slice(None))
    np.testing.assert_array_equal(labels.label, probabilities.argmax(axis=1))
    assert len(done) == 1


def test_a_file_for_another_cpu_is_not_used(cache, model, monkeypatch):
    load(model)(tiles_of())
    (file,) = cache.iterdir()
    monkeypatch.setattr(openvino, "_cpu", lambda: "another")
    done = conversions(monkeypatch)
    load(model)(tiles_of())
    assert len(done) == 1
    assert file in cache.iterdir()
    assert len(list(cache.iterdir())) == 2


def test_a_file_that_openvino_refuses_is_compiled_again(cache, model, monkeypatch):
    expected = load(model)(tiles_of())
    (file,) = cache.iterdir()
    openvino_cache.write(file.stem, b"compiled by another version")
    done = conversions(monkeypatch)
    np.testing.assert_array_equal(load(model)(tiles_of()), expected)
    assert len(done) == 1


def test_a_cached_network_loads_without_torch(cache, model):
    load(model)(tiles_of())
    program = f"""
import sys
import numpy as np
from pathlib import Path
from noctile.pipeline.models.load import load_predictor
predict = load_predictor(Path({str(model)!r}), "cpu", threads=1, backend="openvino")
predict(np.zeros((1, {SIDE}, {SIDE}, 3), "u1"))
print([name for name in ("torch", "segmentation_models_pytorch") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert modules_to_import(model, read_card(model), "openvino") == (
        "noctile.pipeline.models.openvino",
    )


@pytest.mark.parametrize("change", ["flipped", "cut", "empty", "other key", "writable by others"])
def test_a_changed_file_is_ignored_and_converted_again(cache, model, monkeypatch, change):
    expected = load(model)(tiles_of())
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    if change == "flipped":
        content[-1000] ^= 1
    elif change == "cut":
        del content[-1:]
    elif change == "empty":
        content.clear()
    elif change == "other key":
        openvino_cache.write("0" * 64, b"x")
        content = (cache / ("0" * 64 + ".openvino")).read_bytes()
    file.write_bytes(content)
    if change == "writable by others":
        file.chmod(0o666)
    done = conversions(monkeypatch)
    np.testing.assert_array_equal(load(model)(tiles_of()), expected)
    assert len(done) == 1
    assert len(load(model)(tiles_of())) == 2
    assert len(done) == 1  # it has been replaced


def test_the_key_depends_on_everything_that_a_network_is_made_from(model, monkeypatch):
    card, config = read_card(model), read_config(model)
    tissue = card.classes[0].model_copy(update={"role": "tissue"})  # it was tumor
    keys = [
        openvino_cache.key_of(card, config),
        openvino_cache.key_of(card.model_copy(update={"sha256": "1" * 64}), config),
        openvino_cache.key_of(card.model_copy(update={"tile_px": 2 * SIDE}), config),
        openvino_cache.key_of(card.model_copy(update={"mean": (0.1, 0.2, 0.3)}), config),
        openvino_cache.key_of(card.model_copy(update={"classes": card.classes[:2]}), config),
        openvino_cache.key_of(
            card.model_copy(update={"classes": (tissue, *card.classes[1:])}), config
        ),
        openvino_cache.key_of(card, {**config, "classes": 6}),
    ]
    monkeypatch.setattr(openvino_cache, "version", lambda _: "1")
    keys.append(openvino_cache.key_of(card, config))
    assert len(set(keys)) == len(keys)


def test_the_oldest_files_are_deleted(cache, monkeypatch):
    monkeypatch.setattr(openvino_cache, "_MAX_FILES", 2)
    for k in range(4):
        openvino_cache.write(str(k), b"x")
        os.utime(cache / f"{k}.openvino", (k, k))
    assert openvino_cache.read("3") == b"x"
    assert sorted(p.name for p in cache.iterdir()) == ["2.openvino", "3.openvino"]


def test_without_a_writable_folder_each_load_converts(tmp_path, model, monkeypatch):
    (tmp_path / "file").write_text(json.dumps({}))
    monkeypatch.setenv("NOCTILE_CACHE", str(tmp_path / "file"))
    done = conversions(monkeypatch)
    for _ in range(2):
        load(model)
    assert len(done) == 2
