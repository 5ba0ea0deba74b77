"""Faults and their remedies."""

from pathlib import Path

import pytest

from noctile.pipeline.errors import StoreError
from noctile.workflows.commands.verify_faults import UnreadableFileError, file_fault, reading
from noctile.workflows.results.layout import SlideFolder

FOLDER = SlideFolder(Path("results") / "slides" / "a")


def test_a_fault_names_its_file_relative_to_the_results():
    assert file_fault(FOLDER, FOLDER.preview, "is missing").file == "slides/a/preview.jpg"


def test_a_measured_file_is_repaired_without_segmentation():
    assert file_fault(FOLDER, FOLDER.tiles, "is missing").remedy.startswith(
        "delete slides/a/summary.json and run"
    )


def test_a_mask_is_repaired_by_segmentation():
    assert file_fault(FOLDER, FOLDER.mask, "is missing").remedy.startswith(
        "delete slides/a and run"
    )


def test_an_error_of_a_reader_becomes_a_fault_of_the_file():
    with pytest.raises(UnreadableFileError) as caught, reading(FOLDER, FOLDER.mask):
        raise StoreError("shard 0, 0 is damaged")
    assert caught.value.fault == file_fault(
        FOLDER, FOLDER.mask, "cannot be read: shard 0, 0 is damaged"
    )


def test_a_defect_of_the_program_is_no_fault_of_the_file():
    with pytest.raises(RuntimeError), reading(FOLDER, FOLDER.mask):
        raise RuntimeError
