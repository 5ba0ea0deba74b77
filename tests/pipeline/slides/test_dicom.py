"""DICOM files of one series."""

from pathlib import Path

import pydicom

from noctile.pipeline.slides.dicom import series_files
from noctile.pipeline.slides.fingerprint import fingerprint


def dicom_file(path: Path, series: str, side: int = 64) -> Path:
    """Write a DICOM file with the fields by which files are grouped, and no pixels."""
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
