"""Channel order: images in BGR order are read as RGB, and other odd colours stay as they are."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from noctile.pipeline.slides.channel_order import is_bgr
from noctile.pipeline.slides.open import open_slide

HAEMATOXYLIN, EOSIN, DAB = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)
"""Optical densities of stains in R, G, B. (Ruifrok & Johnston 2001, table 1)"""


@pytest.fixture(scope="module")
def tissue(repo: Path) -> np.ndarray:
    """Pixels of a sample slide, uint8 ``[h, w, 3]``."""
    reader = open_slide(repo / "sample_slides" / "generic.tiff")
    pixels = reader.read(reader.info.frame.box, reader.info.frame.mpp)
    reader.close()
    return pixels


def stained(
    amounts: dict[tuple[float, float, float], float], nuclei: tuple[float, float, float]
) -> np.ndarray:
    """Draw a square of 256 px with a background and round nuclei.

    Args:
        amounts: stains of the background and their amounts.
        nuclei: stain of the nuclei, in twice its natural density.
    """
    y, x = np.mgrid[:256, :256]
    density = np.zeros((256, 256, 3)) + sum(
        np.array(stain) * amount for stain, amount in amounts.items()
    )
    density[(y % 32 - 16) ** 2 + (x % 32 - 16) ** 2 < 50] += 2 * np.array(nuclei)
    noisy = density + np.random.default_rng(0).normal(0, 0.03, density.shape)
    return np.clip(256 * np.exp(-noisy) - 1, 0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> Path:
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    elif path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, quality=90)
    else:
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="zlib")
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_images_in_bgr_order_are_read_as_rgb(tissue: np.ndarray, name: str, tmp_path: Path) -> None:
    reader = open_slide(write(tmp_path / name, tissue[..., ::-1].copy()), mpp=0.5)
    assert reader.bgr
    assert np.array_equal(reader.read(reader.info.frame.box, 0.5), tissue)
    coarse = open_slide(write(tmp_path / f"right-{name}", tissue), mpp=0.5)
    assert not coarse.bgr
    assert np.array_equal(
        reader.read(reader.info.frame.at(4.0).box, 4.0),
        coarse.read(coarse.info.frame.at(4.0).box, 4.0),
    )
    reader.close()
    coarse.close()


@pytest.mark.parametrize("known", [True, False])
def test_a_known_channel_order_is_not_detected_again(
    tissue: np.ndarray, known: bool, tmp_path: Path
) -> None:
    reader = open_slide(write(tmp_path / "a.png", tissue), mpp=0.5, bgr=known)
    assert reader.bgr == known
    assert np.array_equal(
        reader.read(reader.info.frame.box, 0.5), tissue[..., ::-1] if known else tissue
    )
    reader.close()


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_order_is_detected_in_jpeg_images(
    tissue: np.ndarray, order: slice, tmp_path: Path
) -> None:
    reader = open_slide(write(tmp_path / "a.jpg", tissue[..., order].copy()), mpp=0.5)
    assert reader.bgr == (order.step == -1)
    reader.close()


def test_scanner_formats_are_rgb_without_a_look_at_pixels(repo: Path) -> None:
    """No pixel of an Aperio file is read to determine its channel order."""
    reader = open_slide(repo / "sample_slides" / "tumor-nests-20x.svs")
    reader.close()  # reading is an error from here on
    assert not reader.bgr


@pytest.mark.parametrize(
    ("background", "nuclei", "bgr"),
    [
        ({EOSIN: 0.5}, HAEMATOXYLIN, False),
        ({EOSIN[::-1]: 0.5}, HAEMATOXYLIN[::-1], True),
        ({HAEMATOXYLIN: 0.3}, DAB, False),  # immunohistochemistry
        ({EOSIN: 0.4}, EOSIN, False),  # muscle without nuclei
        ({}, (0.15, 0.8, 0.75), False),  # blood
        ({}, (0.6, 0.6, 0.6), False),  # black ink
    ],
)
def test_only_haematoxylin_in_bgr_order_is_detected(
    background: dict, nuclei: tuple, bgr: bool
) -> None:
    assert is_bgr([stained(background, nuclei)]) == bgr


def test_glass_is_not_bgr() -> None:
    assert not is_bgr([])
    assert not is_bgr([np.full((256, 256, 3), 243, np.uint8)])


def test_real_regions_and_tiles_are_bgr_and_a_converted_slide_is_not(
    shared_data: Path,
) -> None:
    images = [
        *sorted((shared_data / "bcss" / "images").iterdir()),
        *sorted((shared_data / "camelyon" / "images").iterdir()),
    ]
    assert len(images) == 34
    for path in (*images, shared_data / "slides" / "CMU-1-Small-Region.wrong-mpp.tiff"):
        reader = open_slide(path, mpp=0.5)
        assert reader.bgr == (path in images), path.name
        reader.close()
