"""Faults that only a second count of the masks can find: the checksums are deleted."""

import shutil

import numpy as np
import pytest
import zarr
from damaged_results import (
    LABELS,
    delete_checksums,
    first_block,
    first_shard,
    found_without_checksums,
)


def test_a_missing_shard_changes_the_counts(damaged):
    delete_checksums(damaged)
    (damaged / first_shard(damaged)).unlink()
    assert any(
        "has 0 labels in block 0, 0, where" in what for _, what in found_without_checksums(damaged)
    )


def test_a_shard_of_another_block_is_found(damaged):
    delete_checksums(damaged)
    shards = sorted((damaged / "slides" / "a" / LABELS / "0").glob("c/*/*"))
    shutil.copy(shards[0], shards[-1])
    assert any(
        "labels in block" in what and what.endswith("were written")
        for _, what in found_without_checksums(damaged)
    )


def test_labels_outside_the_tissue_are_found(damaged):
    delete_checksums(damaged)
    store, box, labels = first_block(damaged)
    labels[0, 0] = 1
    store.write_labels(box, labels, 0)
    assert "has labels outside the tissue in block 0, 0" in [
        what for _, what in found_without_checksums(damaged)
    ]


@pytest.mark.parametrize("level", [1, 2])
def test_a_coarser_level_that_does_not_follow_is_found(damaged, level):
    delete_checksums(damaged)
    array = zarr.open_array(damaged / "slides" / "a" / LABELS / str(level), mode="r+")
    array[100, 100] = 3 - array[100, 100]
    assert any(
        f"on level {level} that does not follow from level {level - 1}" in what
        for _, what in found_without_checksums(damaged)
    )


def test_a_thumbnail_that_does_not_follow_is_found(damaged):
    delete_checksums(damaged)
    array = zarr.open_array(damaged / "slides" / "a" / "mask.ome.zarr" / "1", mode="r+")
    array[0, 0, 0] = 0
    assert found_without_checksums(damaged)[0] == (
        "slides/a/mask.ome.zarr",
        "has a thumbnail whose level 1 does not follow from level 0",
    )


def test_a_label_that_is_no_class_is_found(damaged):
    delete_checksums(damaged)
    store, box, labels = first_block(damaged)
    store.write_labels(box, np.where(labels, 9, labels).astype(np.uint8), 0)
    assert any("that are no class: [9]" in what for _, what in found_without_checksums(damaged))
