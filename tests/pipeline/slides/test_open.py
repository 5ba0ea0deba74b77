"""Which reader serves which file, what cannot be opened, and what changes a fingerprint."""

import os
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from tiny_slides import picture, pyramid, write_tiff

from noctile.pipeline.errors import MppMissingError, SlideOpenError
from noctile.pipeline.slides.dicom import series_files
from noctile.pipeline.slides.fingerprint import fingerprint, mtime_fingerprint
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.tiffslide import TiffSlideSource


def test_a_file_that_is_not_there_is_unopenable(tmp_path: Path) -> None:
    with pytest.raises(
        SlideOpenError, match=r"slide gone: .*gone\.svs cannot be read: No such file"
    ):
        open_slide(tmp_path / "gone.svs")


def test_a_folder_is_unopenable(tmp_path: Path) -> None:
    with pytest.raises(SlideOpenError, match="cannot be read: Is a directory"):
        open_slide(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no slide at all"])
def test_a_file_that_no_reader_knows_is_unopenable_and_says_what_was_tried(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    with pytest.raises(
        SlideOpenError,
        match=r"OpenSlide does not recognise it, .* not TIFF, PNG or JPEG.*convert it",
    ):
        open_slide(path)


def test_an_mrxs_without_its_folder_is_not_taken_for_the_thumbnail_that_it_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mrxs"
    Image.new("RGB", (64, 64)).save(path, format="JPEG")
    with pytest.raises(SlideOpenError, match="an MRXS file needs the folder of the same name"):
        open_slide(path, mpp=0.25)


def test_a_tiff_that_is_cut_off_is_unopenable(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", [picture(128, 128)], 0.25, 0.25)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SlideOpenError, match=r"a\.tif"):
        open_slide(path)


def test_a_codec_that_openslide_lacks_is_unopenable_not_handed_on(shared_data: Path) -> None:
    with pytest.raises(SlideOpenError, match=r"OpenSlide knows the format .* but cannot open it"):
        open_slide(shared_data / "slides" / "unopenable.tiff")


def test_the_callers_name_and_pixel_size_stand(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (60_000, 60_001), (250_000, 290_000), (440_000, 440_001)]
)
def test_the_fingerprint_follows_head_samples_and_tail(
    tmp_path: Path, start: int, stop: int
) -> None:
    path = tmp_path / "a.svs"
    content = bytearray(os.urandom(500_000))
    path.write_bytes(content)
    before = fingerprint(path)
    assert len(before) == 16
    assert fingerprint(path) == before
    content[start:stop] = bytes(255 - byte for byte in content[start:stop])
    path.write_bytes(content)
    assert fingerprint(path) != before


def test_the_fingerprint_follows_the_size_and_not_the_name(tmp_path: Path) -> None:
    first, second, longer = tmp_path / "a.svs", tmp_path / "b.svs", tmp_path / "c.svs"
    first.write_bytes(bytes(1000))
    second.write_bytes(bytes(1000))
    longer.write_bytes(bytes(1001))
    assert fingerprint(first) == fingerprint(second) != fingerprint(longer)


def test_the_fingerprint_of_mrxs_follows_its_folder(tmp_path: Path) -> None:
    slide, folder = tmp_path / "a.mrxs", tmp_path / "a"
    slide.write_bytes(b"header")
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(b"pixels")
    before = fingerprint(slide)
    (folder / "Data0000.dat").write_bytes(b"others")
    changed = fingerprint(slide)
    (folder / "Data0000.dat").rename(folder / "Data0001.dat")
    assert len({before, changed, fingerprint(slide)}) == 3


def test_when_it_was_written_is_known_of_every_file_of_a_slide(tmp_path: Path) -> None:
    slide, folder = tmp_path / "a.mrxs", tmp_path / "a"
    slide.write_bytes(b"header")
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(b"pixels")
    before = mtime_fingerprint(slide)
    assert mtime_fingerprint(slide) == before
    os.utime(folder / "Data0000.dat", ns=(1, 1))
    changed = mtime_fingerprint(slide)
    os.utime(slide, ns=(1, 1))
    assert len({before, changed, mtime_fingerprint(slide)}) == 3


def dicom_file(path: Path, series: str, side: int = 64) -> Path:
    """A DICOM file with what groups it, and no pixels."""
    header = pydicom.Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    header.SOPInstanceUID = pydicom.uid.generate_uid()
    header.SeriesInstanceUID = series
    header.TotalPixelMatrixRows = header.TotalPixelMatrixColumns = side
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_slide_is_all_files_of_its_series(tmp_path: Path) -> None:
    files = [
        dicom_file(tmp_path / name, "1.2.3", side)
        for name, side in (("b.dcm", 512), ("a.dcm", 64), ("c", 32))
    ]
    dicom_file(tmp_path / "other.dcm", "1.2.4")
    (tmp_path / "notes.txt").write_text("not DICOM")
    assert series_files(files[0]) == sorted(files)
    before = fingerprint(files[0])
    dicom_file(files[1], "1.2.3", 65)
    assert fingerprint(files[0]) != before
    assert series_files(tmp_path / "notes.txt") == []
