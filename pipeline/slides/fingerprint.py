"""A short hash that changes when a slide does, from a sample of its bytes: archives are too large
to read twice.
"""

import hashlib
from pathlib import Path

from noctile.pipeline.slides.dicom import series_files

_END_BYTES = 64 * 1024
_SAMPLE_BYTES = 4 * 1024
_SAMPLES = 16


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits over size and sampled content of all files that make up a slide.

    Sampled are the first and last 64 KiB and 16 evenly spaced pieces of 4 KiB of each file: the
    headers, directories and enough of the pixels to tell a file that was scanned or converted
    again. One changed tile may go unseen.

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
    """16 hexadecimal digits over the times at which all files that make up a slide were last
    written.

    What a sample of their bytes does not show, this does: a file that was damaged and has been
    copied again.

    Raises:
        OSError: if a file cannot be looked at.
    """
    times = [file.stat().st_mtime_ns for file in (path, *_companions(path))]
    return hashlib.sha256(str(times).encode()).hexdigest()[:16]


def _companions(path: Path) -> list[Path]:
    """The other files of the slide, sorted: the folder of an MRXS file, the series of a DICOM file."""
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
