"""Zipped OME-Zarr (``.ozx``): the mask of a slide as one file.

Source: RFC-9 of OME-NGFF (https://ngff.openmicroscopy.org/rfc/9). The root of the archive is the
root of the mask. Entries are stored, because Zarr has compressed them already. Every ``zarr.json``
comes first, breadth first, and the comment of the archive names the version of OME-Zarr. The
heat maps are another hierarchy, and an archive holds exactly one.
"""

import json
import os
import shutil
import stat
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.masks.ngff import VERSION
from noctile.pipeline.masks.shard import PARTIAL
from noctile.pipeline.untrusted import open_regular

_METADATA = "zarr.json"

_COMMENT = {"ome": {"version": VERSION, "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
"""Comment of the archive. ``jsonFirst`` stands in an earlier text of the RFC. Readers that know it
stop reading the list of entries behind the metadata."""

_COPY_BYTES = 2**20


def write_ozx(source: ExportSource, path: Path) -> None:
    """Write the mask of a slide as one zipped OME-Zarr file. The same mask makes the same bytes.

    Args:
        source: result of the slide.
        path: path of the file.

    Raises:
        StoreError: if the mask cannot be read, or holds a link or another special file.
        OSError: if the file cannot be written.
    """
    root = source.store.path
    files = sorted(_files(root), key=lambda file: _order(file.relative_to(root)))
    with ZipFile(path, "w", ZIP_STORED, strict_timestamps=True) as archive:
        archive.comment = json.dumps(_COMMENT, separators=(",", ":")).encode()
        for file in files:
            _add(archive, file, file.relative_to(root).as_posix())


def _files(root: Path) -> list[Path]:
    """List the files of a mask, without those of killed writers.

    Raises:
        StoreError: if a folder cannot be listed, or an entry is no regular file.
    """
    files = []
    for folder, _, names in os.walk(root, onerror=_refuse):
        for name in names:
            file = Path(folder, name)
            if not stat.S_ISREG(file.lstat().st_mode):
                raise StoreError(
                    f"{file} is no regular file, and no run makes such; delete {root.parent} to "
                    "have the slide done again"
                )
            if not name.endswith(PARTIAL):
                files.append(file)
    return files


def _refuse(error: OSError) -> None:
    raise StoreError(f"{error.filename} cannot be read: {error.strerror or error}") from error


def _order(name: Path) -> tuple[bool, int, list[tuple[bool, int, str]]]:
    """Sort key of an entry: metadata first, breadth first, then numbers in their order."""
    parts = [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.parts]
    is_metadata = name.name == _METADATA
    return not is_metadata, len(parts) if is_metadata else 0, parts


def _add(archive: ZipFile, file: Path, name: str) -> None:
    """Add a file, without its time and permissions.

    Raises:
        StoreError: if the file cannot be read.
    """
    entry = ZipInfo(name)  # its time is that of the first day of 1980
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.create_system = 3
    try:
        content = open_regular(file)
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}") from error
    with content, archive.open(entry, "w", force_zip64=True) as target:
        shutil.copyfileobj(content, target, _COPY_BYTES)
