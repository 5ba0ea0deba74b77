"""Channel order: files certainly in BGR order are read as RGB; doubtful ones stay as they are."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.channel_order import shifted, squares
from noctile.pipeline.slides.channel_order import BGR_FLAG, DOUBT_FLAG, channel_order
from noctile.pipeline.slides.open import open_slide

HAEMATOXYLIN, EOSIN, DAB = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)
"""Optical densities of stains in R, G, B. (Ruifrok & Johnston 2001, table 1)"""

KERATIN = (0.42, 0.95, 0.60)
"""Optical densities of dense eosin in R, G, B: 0.7 times as dense in red as in blue."""


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
    assert reader.flags == ((BGR_FLAG,) if order.step == -1 else ())
    reader.close()


def test_scanner_formats_are_rgb_without_a_look_at_pixels(repo: Path) -> None:
    """No pixel of an Aperio file is read to determine its channel order."""
    reader = open_slide(repo / "sample_slides" / "tumor-nests-20x.svs")
    reader.close()  # reading is an error from here on
    assert not reader.bgr


@pytest.mark.parametrize(
    ("background", "nuclei", "order"),
    [
        ({EOSIN: 0.5}, HAEMATOXYLIN, "rgb"),
        ({EOSIN[::-1]: 0.5}, HAEMATOXYLIN[::-1], "bgr"),
        ({HAEMATOXYLIN: 0.3}, DAB, "rgb"),  # immunohistochemistry
        ({EOSIN: 0.4}, EOSIN, "rgb"),  # muscle without nuclei
        ({}, (0.15, 0.8, 0.75), "rgb"),  # blood
        ({}, (0.6, 0.6, 0.6), "rgb"),  # black ink
        ({KERATIN: 0.5}, KERATIN, "doubtful"),
        ({HAEMATOXYLIN: 0.3}, KERATIN, "doubtful"),  # a red stain beside blue nuclei
    ],
)
def test_bgr_order_needs_nuclei_and_pale_tissue_that_agree(
    background: dict, nuclei: tuple, order: str
) -> None:
    assert channel_order([stained(background, nuclei)]) == order


def test_a_small_image_is_doubtful_at_most() -> None:
    pixels = stained({EOSIN[::-1]: 0.5}, HAEMATOXYLIN[::-1])
    assert channel_order([pixels[:128, :128]]) == "doubtful"


def test_glass_is_not_bgr() -> None:
    assert channel_order([]) == "rgb"
    assert channel_order([np.full((256, 256, 3), 243, np.uint8)]) == "rgb"


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


def test_real_tissue_in_rgb_order_is_never_exchanged(shared_data: Path, tmp_path: Path) -> None:
    """A generic TIFF of a region that was saved again, whose nuclei are eosin-rich."""
    images = shared_data / "camelyon16-classes" / "images"
    paths = sorted(images.glob("tumor__tumor_001_7*.png"))
    doubtful = 0
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        with closing(open_slide(write(tmp_path / "a.tiff", pixels), mpp=0.25)) as reader:
            assert np.array_equal(reader.read(reader.info.frame.box, 0.25), pixels), path.name
            doubtful += reader.flags == (DOUBT_FLAG,)
    assert doubtful >= 4


def test_stain_shifted_real_tissue_is_never_exchanged(shared_data: Path) -> None:
    """Short form of benchmarks/channel_order.py."""
    rng = np.random.default_rng(1)
    for path in sorted((shared_data / "camelyon16-classes" / "images").iterdir())[::8]:
        parts = squares(np.asarray(Image.open(path).convert("RGB")))
        for _ in range(20):
            assert channel_order(shifted(parts, rng)) != "bgr", path.name
