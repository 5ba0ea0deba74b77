"""Files that confine the analysis of a slide, and the hashes of their content."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import RoiError, TissueMaskError
from noctile.pipeline.models.folder import sha256_of

MASK_NAME = "mask.ome.zarr"
"""Folder of the label map in a result of Noctile."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """Files that the user gives for a slide.

    Attributes:
        roi: GeoJSON file with regions of interest, or None.
        tissue_mask: tissue mask, a picture or a mask of Noctile, or None.
    """

    roi: Path | None = None
    tissue_mask: Path | None = None

    def hashes(self) -> dict[str, str]:
        """Hash the content of the files, under the names that summaries have; none for no file.

        Raises:
            RoiError: if the file of regions cannot be read.
            TissueMaskError: if the tissue mask cannot be read.
        """
        found = {}
        if self.roi:
            try:
                found["roi_given"] = given_sha256(self.roi)
            except OSError as error:
                raise RoiError(unreadable("region of interest", self.roi, error)) from error
        if self.tissue_mask:
            try:
                found["tissue_mask_given"] = given_sha256(self.tissue_mask)
            except OSError as error:
                what = unreadable("tissue mask", self.tissue_mask, error)
                raise TissueMaskError(what) from error
        return found


def confined_to(summary: Mapping[str, Any]) -> str:
    """Say to what a slide was confined, such as ``2 regions of interest``; "" if to nothing.

    Args:
        summary: contents of its ``summary.json``.
    """
    n = len(summary.get("regions", ()))
    regions = [f"{n} region{'s' if n != 1 else ''} of interest"] if "roi_given" in summary else []
    mask = ["a given tissue mask"] if "tissue_mask_given" in summary else []
    return " and ".join((*regions, *mask))


def unreadable(what: str, path: Path, error: OSError) -> str:
    """Message about a file of a manifest that cannot be read."""
    return (
        f"{what} {path} cannot be read: {error.strerror or error}; correct the path in the "
        "manifest, which is relative to the manifest's folder"
    )


def mask_folder(path: Path) -> Path | None:
    """Folder of a label map that Noctile has made: a folder itself, or the one in it.

    Args:
        path: a folder ``mask.ome.zarr``, or a folder that holds it; None for a file.
    """
    if not path.is_dir():
        return None
    inner = path / MASK_NAME
    return inner if inner.is_dir() else path


def given_sha256(path: Path) -> str:
    """Hash all bytes of a file, or of all files of a label map, to 64 hexadecimal digits.

    A copy of the same content has the same hash, at any time and in any place.

    Raises:
        OSError: if a file cannot be read, or is a pipe or a device.
    """
    folder = mask_folder(path)
    if folder is None:
        return sha256_of(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = file.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
        digest.update(name + b"\0" + sha256_of(file).encode())
    return digest.hexdigest()
