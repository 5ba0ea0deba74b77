"""Short hashes that change when a slide's files change.

Only a sample of the bytes is read, because archives are too large to be read twice.
"""

import hashlib
from pathlib import Path

from noctile.pipeline.slides.dicom import series_files

_END_BYTES = 64 * 1024
_SAMPLE_BYTES = 4 * 1024
_SAMPLES = 16


def fingerprint(path: Path) -> str:
    """Hash the size and a sample of the content of all files of a slide, to 16 hexadecimal digits.

    The sample is the first and last 64 KiB of each file and 16 evenly spaced pieces of 4 KiB. It
    covers headers, directories and enough pixels to notice a file that was scanned or converted
    again. A change of one tile may go unnoticed.

    Raises:
        OSError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    _add(digest, path)
    for part in _companions(path):
        digest.update(part.relative_to(path.parent).as_posix().encode("utf-8", "surrogateescape"))
        _add(digest, part)
    return digest.hexdigest()[:16]


def mtime_fingerprint(path: Path) -> str:
    """Hash the modification times of all files of a slide, to 16 hexadecimal digits.

    A copy or a move of a file may change it, too.

    Raises:
        OSError: if the status of a file cannot be read.
    """
    times = [file.stat().st_mtime_ns for file in (path, *_companions(path))]
    return hashlib.sha256(str(times).encode()).hexdigest()[:16]


def file_state(path: Path) -> tuple[int, int]:
    """Return size (B) and time of modification (ns) of a file; -1, -1 if there is no such file.

    The file is not opened, because that can hang.
    """
    try:
        about = path.stat()
    except OSError:
        return -1, -1
    return about.st_size, about.st_mtime_ns


def slide_files(path: Path) -> list[Path]:
    """List all files of a slide, its own first.

    Raises:
        OSError: if a folder or a file of a DICOM series cannot be read.
    """
    return [path, *_companions(path)]


def content_sha256(path: Path) -> str:
    """Hash all bytes of all files of a slide, to 64 hexadecimal digits.

    Raises:
        OSError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in (path, *_companions(path)):
        name = file.relative_to(path.parent).as_posix() if file != path else ""
        digest.update(name.encode("utf-8", "surrogateescape"))
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _companions(path: Path) -> list[Path]:
    """Other files of the slide, sorted: the folder of an MRXS file, the series of a DICOM file."""
    if path.suffix.lower() == ".mrxs":
        return sorted(part for part in path.with_suffix("").rglob("*") if part.is_file())
    return [part for part in series_files(path) if part != path]


def _add(digest: "hashlib._Hash", path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "big"))
    last = max(0, size - _SAMPLE_BYTES)
    samples = [(last * k // (_SAMPLES - 1), _SAMPLE_BYTES) for k in range(_SAMPLES)]
    with path.open("rb") as file:
        for offset, count in [(0, _END_BYTES), (max(0, size - _END_BYTES), _END_BYTES), *samples]:
            file.seek(offset)
            digest.update(file.read(count))
