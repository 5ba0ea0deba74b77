import os
import shutil
import subprocess
import tracemalloc
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from standins import MASK_CLASSES, stored_labels

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export import dicom_seg
from noctile.pipeline.export.dicom_seg import write_dicom_seg

CODES = [1, 2, 21]


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    pixels = np.zeros((1300, 1700), np.uint8)
    pixels[100:1250, 50:1000] = 2
    pixels[300:900, 200:900] = np.random.default_rng(0).choice([1, 21], (600, 700))
    return pixels


@pytest.fixture(scope="module")
def source(labels, tmp_path_factory):
    """Mask of a 40x slide with bounds, whose pixels are not square."""
    return stored_labels(
        tmp_path_factory.mktemp("seg") / "s",
        labels,
        mpp=(0.5, 0.52),
        slide_mpp=(0.25, 0.26),
        bounds_yx=(3000, 4001),
    )


@pytest.fixture(scope="module")
def binary(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("out") / "s.dcm"
    write_dicom_seg(source, path)
    return path


@pytest.fixture(scope="module")
def labelmap(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("out") / "labelmap.dcm"
    write_dicom_seg(source, path, labelmap=True)
    return path


def check(path: Path) -> list[str]:
    """Errors that dciodvfy finds in a DICOM file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    run = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert "Segmentation" in lines
    return [line for line in lines if line.startswith("Error")]


def pixels_by_hand(dataset: pydicom.Dataset) -> np.ndarray:
    """Label map of a binary segmentation, from its frames alone; values are segments."""
    extent = (dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns)
    found = np.zeros([-(-n // 512) * 512 for n in extent], np.uint8)
    groups = dataset.PerFrameFunctionalGroupsSequence
    for frame, group in zip(dataset.pixel_array, groups, strict=True):
        place = group.PlanePositionSlideSequence[0]
        y = place.RowPositionInTotalImagePixelMatrix - 1
        x = place.ColumnPositionInTotalImagePixelMatrix - 1
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[y : y + 512, x : x + 512] += frame.astype(np.uint8) * segment
    assert not found[extent[0] :].any()
    assert not found[:, extent[1] :].any()
    return found[: extent[0], : extent[1]]


def as_segments(labels: np.ndarray) -> np.ndarray:
    return np.searchsorted([0, *CODES], labels).astype(np.uint8)


def test_dciodvfy_finds_no_error(binary):
    assert check(binary) == []


def test_highdicom_reads_the_labels_of_both_kinds(labels, binary, labelmap):
    segments = highdicom.seg.segread(binary).get_total_pixel_matrix(combine_segments=True)
    np.testing.assert_array_equal(segments, as_segments(labels))
    read = highdicom.seg.segread(labelmap)
    np.testing.assert_array_equal(read.get_total_pixel_matrix(combine_segments=True), labels)
    assert [item.SegmentNumber for item in read.SegmentSequence] == [0, *CODES]


def test_frames_alone_give_the_labels_and_areas(labels, source, binary):
    dataset = pydicom.dcmread(binary)
    found = pixels_by_hand(dataset)
    np.testing.assert_array_equal(found, as_segments(labels))
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    pixel_mm2 = float(measures.PixelSpacing[0]) * float(measures.PixelSpacing[1])
    for segment in dataset.SegmentSequence:
        area = np.count_nonzero(found == segment.SegmentNumber) * pixel_mm2
        assert area == pytest.approx(source.class_area_mm2[segment.SegmentLabel], rel=1e-9)


def test_only_frames_with_content_are_written(labels, binary, labelmap):
    dataset = pydicom.dcmread(binary, stop_before_pixels=True)
    tiles = [labels[y : y + 512, x : x + 512] for y in (0, 512, 1024) for x in range(0, 1700, 512)]
    assert dataset.NumberOfFrames == sum(len(set(np.unique(tile)) - {0}) for tile in tiles)
    assert len(dataset.PerFrameFunctionalGroupsSequence) == dataset.NumberOfFrames
    assert dataset.DimensionOrganizationType == "TILED_SPARSE"
    frames = pydicom.dcmread(labelmap, stop_before_pixels=True).NumberOfFrames
    assert frames == sum(tile.any() for tile in tiles)


def test_frames_lie_at_their_place_on_the_slide(binary):
    dataset = pydicom.dcmread(binary, stop_before_pixels=True)
    origin = dataset.TotalPixelMatrixOriginSequence[0]
    x0, y0 = 4001 * 0.26e-3 + 0.26e-3, 3000 * 0.25e-3 + 0.25e-3  # centre of the first label
    assert float(origin.XOffsetInSlideCoordinateSystem) == pytest.approx(x0, abs=1e-9)
    assert float(origin.YOffsetInSlideCoordinateSystem) == pytest.approx(y0, abs=1e-9)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = group.PlanePositionSlideSequence[0]
        x = x0 + (place.ColumnPositionInTotalImagePixelMatrix - 1) * 0.52e-3
        y = y0 + (place.RowPositionInTotalImagePixelMatrix - 1) * 0.5e-3
        assert float(place.XOffsetInSlideCoordinateSystem) == pytest.approx(x, abs=1e-9)
        assert float(place.YOffsetInSlideCoordinateSystem) == pytest.approx(y, abs=1e-9)


def test_segments_have_names_codes_and_colors(binary):
    segments = pydicom.dcmread(binary, stop_before_pixels=True).SegmentSequence
    assert [s.SegmentLabel for s in segments] == ["tumor", "stroma", "other"]
    types = [s.SegmentedPropertyTypeCodeSequence[0] for s in segments]
    assert [t.CodeValue for t in types] == ["108369006", "21793004", "class_21"]
    assert all(len(s.RecommendedDisplayCIELabValue) == 3 for s in segments)
    assert {s.SegmentAlgorithmType for s in segments} == {"AUTOMATIC"}


@pytest.mark.parametrize("is_labelmap", [False, True])
def test_the_same_mask_makes_the_same_bytes(source, binary, labelmap, tmp_path, is_labelmap):
    again = tmp_path / "again.dcm"
    write_dicom_seg(source, again, labelmap=is_labelmap)
    assert again.read_bytes() == (labelmap if is_labelmap else binary).read_bytes()


def test_dates_are_those_of_the_mask(labels, tmp_path):
    source = stored_labels(tmp_path / "s", labels[:600, :600])
    os.utime(source.store.path / "zarr.json", (1e9, 1e9))
    write_dicom_seg(source, tmp_path / "s.dcm")
    dataset = pydicom.dcmread(tmp_path / "s.dcm", stop_before_pixels=True)
    assert (dataset.ContentDate, dataset.ContentTime) == ("20010909", "014640")
    assert dataset.InstanceCreationDate == "20010909"


@pytest.mark.parametrize("classes", [MASK_CLASSES[:1], MASK_CLASSES])
def test_masks_of_one_class_and_without_a_label_are_valid(tmp_path, classes):
    one = np.zeros((600, 600), np.uint8)
    one[:100, :100] = len(classes) == 1
    source = stored_labels(tmp_path / "s", one, classes=classes)
    write_dicom_seg(source, tmp_path / "s.dcm")
    assert check(tmp_path / "s.dcm") == []
    read = highdicom.seg.segread(tmp_path / "s.dcm")
    np.testing.assert_array_equal(read.get_total_pixel_matrix(combine_segments=True), one)


def test_too_many_frames_give_the_next_level(source, tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_seg, "MAX_FRAMES", 6)
    write_dicom_seg(source, tmp_path / "s.dcm")
    read = highdicom.seg.segread(tmp_path / "s.dcm")
    assert read.NumberOfFrames <= 6
    level = 1
    expected = as_segments(source.store.read_level(level))
    np.testing.assert_array_equal(read.get_total_pixel_matrix(combine_segments=True), expected)
    measures = read.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(mm) for mm in measures.PixelSpacing] == [0.001, 0.00104]


def test_a_dicom_slide_is_referred_to(source, shared_data, tmp_path):
    slide = shared_data / "slides" / "camelyon-overview.dcm"
    of_dicom = replace(source, slide_path=slide, summary={**source.summary, "vendor": "dicom"})
    write_dicom_seg(of_dicom, tmp_path / "s.dcm")
    dataset = pydicom.dcmread(tmp_path / "s.dcm", stop_before_pixels=True)
    own = pydicom.dcmread(slide, stop_before_pixels=True)
    assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == own.SOPInstanceUID
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == own.SeriesInstanceUID
    assert dataset.StudyInstanceUID == own.StudyInstanceUID
    assert dataset.FrameOfReferenceUID == own.FrameOfReferenceUID
    assert list(dataset.ImageOrientationSlide) == list(own.ImageOrientationSlide)
    assert check(tmp_path / "s.dcm") == []


def test_a_header_that_cannot_be_made_names_the_slide(source, tmp_path, shared_data):
    slide = shared_data / "slides" / "camelyon-overview.dcm"
    torn = pydicom.dcmread(slide)
    torn.ImageOrientationSlide = [1, 0]
    torn.save_as(tmp_path / "torn.dcm")
    summary = {**source.summary, "vendor": "dicom"}
    with pytest.raises(StoreError, match="s: no DICOM header"):
        write_dicom_seg(
            replace(source, slide_path=tmp_path / "torn.dcm", summary=summary), tmp_path / "s.dcm"
        )


def test_memory_is_bounded(tmp_path):
    source = stored_labels(tmp_path / "s", np.ones((4000, 3000), np.uint8), block_px=2048)
    write_dicom_seg(source, tmp_path / "s.dcm")  # imports stay in memory
    tracemalloc.start()
    write_dicom_seg(source, tmp_path / "s.dcm")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9e6  # the label map has 12 MB
