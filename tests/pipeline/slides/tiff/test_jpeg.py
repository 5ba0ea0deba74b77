"""JPEG tiles at reduced size, compared with means of the full pixels."""

import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiff_layouts import through
from tiny_slides import write_tiff

from noctile.pipeline.geometry import Box
from noctile.pipeline.models.folder import find_model
from noctile.pipeline.models.load import load_predictor
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.openslide import OpenSlideSource

REDUCED = [("420", 2), ("420", 4), ("420", 8), ("444", 2), ("444", 4), ("444", 8)]


def tissue_slide(
    shared_data: Path, path: Path, region: str, subsampling: str, quality: int
) -> Path:
    """Write 1,024 x 1,024 px of a BCSS region as a 40x slide of one level of 256-px JPEG tiles."""
    with Image.open(shared_data / "bcss" / "images" / f"{region}.jpg") as image:
        pixels = np.asarray(image.convert("RGB"))[512:1536, 1024:2048]
    factors = {"444": (1, 1), "420": (2, 2)}[subsampling]
    options = {"tile": (256, 256), "subsampling": factors, "compressionargs": {"level": quality}}
    return write_tiff(path, [pixels], 0.25, 0.25, **options)


@pytest.mark.parametrize("region", ["1008", "1015"])
@pytest.mark.parametrize(("subsampling", "factor"), REDUCED)
def test_reduced_tissue_is_40_db_from_means_of_its_pixels(
    shared_data, tmp_path, region, subsampling, factor
) -> None:
    path = tissue_slide(shared_data, tmp_path / "a.tif", region, subsampling, 80)
    with closing(open_slide(path)) as reader:
        full = reader.read(reader.info.frame.box, 0.25)
        reduced = reader.read(Box(0, 0, 1024 // factor, 1024 // factor), 0.25 * factor)
    means = np.asarray(Image.fromarray(full).reduce(factor)).astype(float)
    psnr = 10 * math.log10(255**2 / np.mean((reduced - means) ** 2))
    assert psnr > 47
    assert psnr < 60  # reduced by the decoder, not averaged


def test_real_slides_are_40_db_from_the_means_too(shared_data: Path) -> None:
    for name in ("CMU-1-Small-Region.svs", "CMU-1-Small-Region.wrong-mpp.tiff"):
        path = shared_data / "slides" / name
        with (
            closing(open_slide(path, mpp=0.5)) as one,
            closing(through(OpenSlideSource, path, 0.5)) as other,
        ):
            for mpp in (1.0, 2.0, 4.0):
                inner = one.info.frame.at(mpp).box.grow(-1)
                squares = (one.read(inner, mpp).astype(float) - other.read(inner, mpp)) ** 2
                assert 10 * math.log10(255**2 / squares.mean()) > 40


@pytest.mark.parametrize("region", ["1008", "1015"])
def test_the_shipped_model_gives_reduced_tissue_the_same_labels(
    shared_data: Path, tmp_path: Path, region: str
) -> None:
    path = tissue_slide(shared_data, tmp_path / "a.tif", region, "420", 80)
    predict = load_predictor(find_model("tumor"), "cpu", threads=2)
    with closing(open_slide(path)) as one, closing(through(OpenSlideSource, path)) as other:
        whole = one.info.frame.at(predict.card.mpp).box
        assert (whole.height, whole.width) == (512, 512)
        pixels = np.stack([reader.read(whole, predict.card.mpp) for reader in (one, other)])
    labels = np.asarray(predict(pixels)).argmax(axis=1)
    assert not np.array_equal(*pixels)
    assert 0.05 < labels[0].mean() < 0.95  # both labels occur
    assert (labels[0] == labels[1]).mean() >= 0.995
