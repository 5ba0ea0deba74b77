"""Hashes of the files that confine a slide."""

import os
import shutil

import pytest
from standins import stored_labels

from noctile.pipeline.errors import RoiError, TissueMaskError
from noctile.pipeline.roi.confinement import (
    Confinement,
    confined_to,
    given_sha256,
    mask_folder,
    unreadable,
)


def test_only_the_content_of_a_file_counts(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abc")
    other.write_bytes(b"abc")
    os.utime(other, (1, 1))
    assert given_sha256(one) == given_sha256(other)
    assert given_sha256(one).startswith("ba7816bf8f01cfea")  # FIPS 180-2, appendix B.1
    other.write_bytes(b"abd")
    assert given_sha256(one) != given_sha256(other)


def test_a_label_map_is_hashed_file_by_file(tmp_path):
    import numpy as np

    stored_labels(tmp_path / "a", np.full((40, 40), 1, np.uint8), block_px=32)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first = given_sha256(tmp_path / "a")
    assert given_sha256(tmp_path / "b") == given_sha256(tmp_path / "b/mask.ome.zarr") == first
    (tmp_path / "b" / "notes.txt").write_text("beside the mask")
    assert given_sha256(tmp_path / "b") == first
    next((tmp_path / "b" / "mask.ome.zarr").rglob("c/0/0")).write_bytes(b"x")
    assert given_sha256(tmp_path / "b") != first


def test_a_mask_lies_in_a_folder_or_is_one(tmp_path):
    (inner := tmp_path / "mask.ome.zarr").mkdir()
    assert mask_folder(tmp_path) == mask_folder(inner) == inner
    assert mask_folder(tmp_path / "none.png") is None


def test_hashes_have_the_names_of_summaries_and_missing_files_are_named(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert Confinement().hashes() == {}
    both = Confinement(tmp_path / "a", tmp_path / "a").hashes()
    assert list(both) == ["roi_given", "tissue_mask_given"]
    with pytest.raises(RoiError, match=r"gone cannot be read: No such file.*relative to"):
        Confinement(tmp_path / "gone").hashes()
    with pytest.raises(TissueMaskError, match="gone"):
        Confinement(None, tmp_path / "gone").hashes()
    assert "No such" in unreadable("x", tmp_path, FileNotFoundError(2, "No such file"))


def test_words_tell_to_what_a_slide_was_confined():
    assert confined_to({"tumor_area_mm2": 1.0}) == ""
    assert confined_to({"roi_given": "x", "regions": [{}]}) == "1 region of interest"
    both = {"roi_given": "x", "tissue_mask_given": "y", "regions": [{}, {}]}
    assert confined_to(both) == "2 regions of interest and a given tissue mask"
