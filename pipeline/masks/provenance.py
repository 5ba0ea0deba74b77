"""Provenance of a mask: what its attributes say about slide, model, settings and versions."""

from pathlib import Path
from typing import Any

from noctile.pipeline.masks.ngff import LABELS
from noctile.pipeline.masks.zarr_folder import read_attributes, store_errors

_OWN = ("layout", "level0_affine")
"""Values that belong to the label map itself, and are made anew with it."""


def read_provenance(mask: Path) -> dict[str, Any]:
    """Read the plain values with which a mask was created (`MaskStore.create`).

    Args:
        mask: the folder ``mask.ome.zarr``.

    Raises:
        StoreError: if they cannot be read.
    """
    with store_errors(mask, "read", "delete it to have the slide done again"):
        about = read_attributes(mask, f"labels/{LABELS}")["noctile"]
        return {name: value for name, value in about.items() if name not in _OWN}
