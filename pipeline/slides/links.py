"""Links to slides: the file at the end of a link, and slides of several files."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from noctile.pipeline.slides.dicom import header_or_none, read_header
from noctile.pipeline.slides.names import path_problem

_MRXS_INDEX = "Slidedat.ini"
"""File in the data folder of an .mrxs file that is needed to open the slide."""


def real_path(path: Path) -> Path:
    """File at the end of a path's links; the path itself if its links run in a circle."""
    return Path(os.path.realpath(path))


def is_link(path: Path) -> bool:
    """Test for a link; false if no file can have that name or access is denied."""
    return os.path.islink(path)  # noqa: PTH114 - false where access is denied


def series_sizes(folder: Path) -> Counter[str]:
    """Number of readable files of each DICOM series in a folder.

    Raises:
        OSError: if the folder cannot be read.
    """
    headers = (header_or_none(file) for file in folder.iterdir() if file.is_file())
    return Counter(header.series for header in headers if header)


def data_path(path: Path, sizes: Callable[[Path], Counter[str]] = series_sizes) -> Path:
    """Path at which all files of a slide are found.

    It is the target of a link to an .mrxs file if the slide's data are not beside the link, and
    the target of a link to a DICOM file if more files of its series are beside the target. Else it
    is the path itself.

    Args:
        path: file of a slide, or a link to one.
        sizes: counts the files of each DICOM series of a folder, as `series_sizes` does.
    """
    if not is_link(path) or path_problem(str(target := real_path(path))):
        return path
    if path.suffix.lower() == ".mrxs":
        index = path.with_suffix("") / _MRXS_INDEX
        beside = os.path.isfile(index)  # noqa: PTH113 - false where access is denied
        return path if beside else target
    try:
        header = read_header(target)
        more = header and sizes(target.parent)[header.series] > sizes(path.parent)[header.series]
    except OSError:
        return path
    return target if more else path
