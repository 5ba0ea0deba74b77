"""Opening of slides: files that cannot be opened, and the name and pixel size of the call."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tifffile import imwrite
from tiny_slides import packed, picture, pyramid, write_tiff

from noctile.pipeline.errors import MppMissingError, SlideMissingError, SlideOpenError
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.tiffslide import TiffSlideSource


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SlideMissingError, match=r"slide gone: there is no file .*gone\.svs"):
        open_slide(tmp_path / "gone.svs")
    (tmp_path / "link.svs").symlink_to("gone.svs")
    with pytest.raises(SlideMissingError, match="slide link"):
        open_slide(tmp_path / "link.svs")


def test_a_folder_is_unopenable(tmp_path: Path) -> None:
    with pytest.raises(SlideOpenError, match="cannot be read: Is a directory"):
        open_slide(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no slide at all"])
def test_an_unsupported_file_is_unopenable_and_the_error_names_the_formats(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    with pytest.raises(
        SlideOpenError,
        match=r"OpenSlide does not recognise it, .* not TIFF, PNG or JPEG.*convert it",
    ):
        open_slide(path)


def test_an_mrxs_file_without_its_folder_is_not_opened_as_a_jpeg_image(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mrxs"
    Image.new("RGB", (64, 64)).save(path, format="JPEG")
    with pytest.raises(SlideOpenError, match="an MRXS file needs the folder of the same name"):
        open_slide(path, mpp=0.25)


def test_a_truncated_tiff_is_unopenable(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", [picture(128, 128)], 0.25, 0.25)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SlideOpenError, match=r"a\.tif"):
        open_slide(path)


def test_a_file_with_a_codec_unknown_to_openslide_is_unopenable(shared_data: Path) -> None:
    with pytest.raises(SlideOpenError, match=r"OpenSlide knows the format .* but cannot open it"):
        open_slide(shared_data / "slides" / "unopenable.tiff")


@pytest.mark.parametrize("bits", [1, 2, 4, 12])
@pytest.mark.parametrize("tile", [(64, 64), None])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_tiff_samples_of_few_bits_are_refused(
    bits: int, tile: tuple[int, int] | None, photometric: str, tmp_path: Path
) -> None:
    pixels = (picture(64, 64) >> 4 if bits < 8 else picture(64, 64).astype(np.uint16)) % 2**bits
    pixels = pixels if photometric == "rgb" else pixels[..., 0]
    path = tmp_path / "a.tif"
    with packed():
        imwrite(path, pixels, bitspersample=bits, tile=tile, photometric=photometric)
    with pytest.raises(SlideOpenError, match=rf"{bits} bits.* only 8-bit grey or RGB is read"):
        open_slide(path, mpp=0.25)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_tiles_of_16_bits_keep_their_upper_8_bits(photometric: str, tmp_path: Path) -> None:
    pixels = picture(64, 64) if photometric == "rgb" else picture(64, 64)[..., 0]
    path = tmp_path / "a.tif"
    imwrite(path, pixels.astype(np.uint16) * 257, tile=(64, 64), photometric=photometric)
    with closing(open_slide(path, mpp=0.25)) as reader:
        read = reader.read(reader.info.frame.box, 0.25)
    assert np.array_equal(read, pixels if photometric == "rgb" else np.dstack([pixels] * 3))


def test_the_name_and_pixel_size_of_the_call_are_used(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", pyramid(picture(128, 160), 2), 0.25, 0.25)
    slide = open_slide(path, slide_id="case 7", mpp=(0.5, 0.6))
    slide.close()
    frame = slide.info.frame
    assert (slide.info.slide_id, frame.mpp_y, frame.mpp_x, slide.info.mpp_source) == (
        "case 7",
        0.5,
        0.6,
        "user",
    )
    assert (slide.info.levels[1].mpp_y, slide.info.levels[1].mpp_x) == (1.0, 1.2)
    assert slide.info.path == path


def test_a_refused_slide_is_closed(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, closed = TiffSlideSource.close, []
    monkeypatch.setattr(TiffSlideSource, "close", lambda source: closed.append(close(source)))
    with pytest.raises(MppMissingError):
        open_slide(shared_data / "slides" / "bfconvert-jpeg.ome.tiff")
    assert len(closed) == 1


def test_a_link_to_one_file_of_a_dicom_series_opens_beside_the_others(
    tmp_path: Path, shared_data: Path
) -> None:
    (tmp_path / "series").mkdir()
    for name in ("0.dcm", "1.dcm"):
        shutil.copyfile(
            shared_data / "slides" / "camelyon-overview.dcm", tmp_path / "series" / name
        )
    (tmp_path / "case 8.dcm").symlink_to("series/1.dcm")
    with closing(open_slide(tmp_path / "case 8.dcm", mpp=1.0)) as reader:
        assert reader.info.slide_id == "case 8"
        assert reader.info.path == tmp_path / "series" / "1.dcm"
