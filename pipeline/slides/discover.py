"""Search for the slides of a run, in files, folders, globs and a manifest."""

import hashlib
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.dicom import DicomHeader, read_header
from noctile.pipeline.slides.image import IMAGE_SUFFIXES
from noctile.pipeline.slides.manifest import ManifestRow, read_manifest
from noctile.pipeline.slides.names import MAX_ID_BYTES, fold_name, path_problem, slide_id_problem
from noctile.pipeline.slides.search import FileSearch, real_path

_DICOM_SUFFIX = ".dcm"

SLIDE_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", _DICOM_SUFFIX, ".scn"),
    *(".vms", ".vmu", ".bif", ".svslide", ".czi", ".qptiff"),
)
"""Endings of slide files in a folder or a glob. (openslide.org/formats; OME-TIFF ends in .tif,
.tiff or .btf)

Plain images (.png, .jpg) are not among them: beside slides they are previews, thumbnails and masks.
"""

_HASH_CHARS = 8

_MRXS_INDEX = "Slidedat.ini"
"""File in the data folder of an .mrxs file that is needed to open the slide."""

_SHOWN_PROBLEMS = 5
"""Largest number of reasons in an error message when no slide was found."""


@dataclass(frozen=True, slots=True)
class SlideEntry:
    """One slide of a run, not opened yet.

    Attributes:
        slide_id: name that is unique in the run, also without upper and lower case, and safe as a
            folder name.
        path: absolute path of the slide. The file may be missing if a manifest names it.
        mpp: size of a level-0 pixel that overrides the file's (um; y, x), or None.
        patient_id: patient in the manifest, or None.
        group: group in the manifest, or None.
        extra: header and cell of each other column of the manifest.
        named: True if the manifest gives the slide_id, False if it is made from the path.
    """

    slide_id: str
    path: Path
    mpp: tuple[float, float] | None
    patient_id: str | None
    group: str | None
    extra: tuple[tuple[str, str], ...]
    named: bool = False


def find_slides(
    arguments: Sequence[str | Path],
    manifest: Path | None,
    mpp: float | None,
    *,
    images: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> list[SlideEntry]:
    """Find the slides of a call, each once, sorted by slide_id.

    Without a manifest, the arguments name the slides. Without arguments, the rows of the manifest
    name them, also if the files do not exist. With both, the manifest adds to the slides among the
    arguments.

    Links to files and folders are followed. A slide at the end of a link is named after the link.
    Several paths to one file are one slide, named after the first path in sorted order. A broken
    link, a link in a circle or an unreadable folder is left out with a warning, also as an
    argument.

    Args:
        arguments: files with any name, folders, which are searched with their subfolders except
            hidden ones, and globs (``**`` for any depth); ``~`` is the home folder. Plain images in
            a folder are left out. A glob that ends in .png, .jpg or .jpeg matches them.
        manifest: a CSV file, see `read_manifest`.
        mpp: size of a level-0 pixel (um) for slides without one in the manifest; None for the
            file's.
        images: find the plain images in folders too.
        warn: called with a line for each path that is left out, or is another name of a slide.

    Raises:
        UsageError: if there is nothing to read, an argument matches no slide, or the manifest
            cannot be used.
    """
    rows = read_manifest(manifest) if manifest else []
    if not arguments and not rows:
        raise UsageError("no slides: name files, folders or globs, or a manifest")
    pairs = _annotated(_found(arguments, images, warn), rows) if arguments else _listed(rows)
    given = None if mpp is None else (mpp, mpp)
    entries = [
        _entry(slide_id, path, row, given)
        for slide_id, (path, row) in zip(_unique_ids(pairs), pairs, strict=True)
    ]
    return sorted(entries, key=lambda entry: entry.slide_id)


_Pair = tuple[Path, ManifestRow | None]
"""Path of a slide, and its row of the manifest, if it has one."""


def _entry(
    slide_id: str, path: Path, row: ManifestRow | None, mpp: tuple[float, float] | None
) -> SlideEntry:
    """Entry of a slide; ``mpp`` (um; y, x) is used if the manifest has none."""
    path = _with_data(path)
    if row is None:
        return SlideEntry(slide_id, path, mpp, None, None, ())
    named = row.slide_id is not None
    return SlideEntry(slide_id, path, row.mpp or mpp, row.patient_id, row.group, row.extra, named)


def _found(
    arguments: Sequence[str | Path], images: bool, warn: Callable[[str], None]
) -> list[Path]:
    """Slide files of the arguments: absolute, sorted, each file and DICOM series once."""
    matches: list[Path] = []
    problems: dict[Path, str] = {}
    for argument in arguments:
        search = FileSearch((*SLIDE_SUFFIXES, *IMAGE_SUFFIXES) if images else SLIDE_SUFFIXES)
        matches += (path.absolute() for path in _match(str(argument), images, search))
        problems |= search.problems
    files, renamed = _once(sorted(matches))
    if not files:
        raise UsageError("no slides: " + "; ".join([*problems.values()][:_SHOWN_PROBLEMS]))
    for line in (*problems.values(), *renamed):
        warn(line)
    return _one_per_series(files)


def _once(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """First path to each file, and a line for each path that has another name than the first.

    Raises:
        UsageError: if a path cannot stand in a table.
    """
    files: dict[Path, Path] = {}
    lines = []
    for path in paths:
        if reason := path_problem(str(path)):
            raise UsageError(
                f"slide {str(path)!a}: its name {reason}; rename the file or its folder, or leave "
                "it out"
            )
        first = files.setdefault(real_path(path), path)
        if first.stem != path.stem:
            lines.append(
                f"{path} is the same file as {first}. They are one slide, named after {first.name}"
            )
    return list(files.values()), lines


def _match(argument: str, images: bool, search: FileSearch) -> list[Path]:
    """Files of one argument; none if the search has found a problem instead."""
    if not argument:
        raise UsageError(
            "one of the slides is an empty name, perhaps a shell variable without a value. Name a "
            "file, folder or glob"
        )
    try:
        path = Path(argument).expanduser()
        if search.is_broken_link(path):
            return []
        if path.is_file():
            return [path]
    except (OSError, RuntimeError) as error:  # a name that is too long; ~ of an unknown user
        raise UsageError(f"{argument!r:.200} cannot be searched for: {error}"[:400]) from error
    own = (path.suffix.lower(),) if path.suffix.lower() in IMAGE_SUFFIXES else ()
    paths = search.files(path, own)
    if not paths and not search.problems:
        ignored = [] if images else FileSearch(IMAGE_SUFFIXES).files(path)
        raise UsageError(f"{argument!r} matches no slide: {_why_none(ignored)}")
    return paths


def _why_none(images: list[Path]) -> str:
    """Reason for which an argument with these plain images, or with no file, has no slide."""
    if images:
        return (
            f"only {len(images)} plain images such as {images[0]}. In a folder those may be "
            "previews or masks. To use them, name the files or a glob that ends in their suffix, "
            "for instance 'regions/*.png'"
        )
    return f"nothing there, or nothing that ends in {' '.join(SLIDE_SUFFIXES)}"


def _one_per_series(files: Iterable[Path]) -> list[Path]:
    """Replace the DICOM files of one series in one folder by the one with the most pixels."""
    slides, series = [], defaultdict(list)
    for file in files:
        header = _header(file)
        if header:
            series[file.parent, header.series].append((-header.pixel_count, file))
        else:
            slides.append(file)
    return sorted([*slides, *(min(members)[1] for members in series.values())])


def _header(file: Path) -> DicomHeader | None:
    """Header of a DICOM file; None for other files, and for one that cannot be read.

    A file that cannot be read fails when it is opened.
    """
    suffix = file.suffix.lower()
    if suffix in (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES) and suffix != _DICOM_SUFFIX:
        return None
    try:
        return read_header(file)
    except OSError:
        return None


def _listed(rows: list[ManifestRow]) -> list[_Pair]:
    pairs: list[_Pair] = []
    seen: dict[Path, ManifestRow] = {}
    for row in rows:
        if row.path is None:
            raise UsageError(
                f"{row.location}: no path; without slides in the call, the manifest needs a "
                "column path"
            )
        other = seen.setdefault(real_path(row.path), row)
        if other is not row:
            raise UsageError(
                f"{row.location}: {row.path} was named before ({other.location}); keep one of "
                "the rows"
            )
        pairs.append((row.path, row))
    return pairs


def _annotated(paths: list[Path], rows: list[ManifestRow]) -> list[_Pair]:
    """Pair each path with its row of the manifest, if it has one. Each row must have a path."""
    row_of: dict[Path, ManifestRow] = {}
    for row in rows:
        matches = _matches(row, paths)
        if len(matches) != 1:
            which = (
                f"fits {len(matches)} slides ({', '.join(map(str, matches))})"
                if matches
                else "is not there"
            )
            raise UsageError(f"{row.location}: among the slides of the call, {row.name} {which}")
        other = row_of.setdefault(matches[0], row)
        if other is not row:
            raise UsageError(
                f"{row.location}: {matches[0]} has a row already ({other.location}); keep one of "
                "the rows"
            )
    return [(path, row_of.get(path)) for path in paths]


def _matches(row: ManifestRow, paths: list[Path]) -> list[Path]:
    """Slides that fit a row: its file, or without such a file those with its name or slide_id."""
    wanted = row.path
    if wanted and wanted.is_file():
        return [path for path in paths if real_path(path) == real_path(wanted)]
    if wanted and (same_name := [path for path in paths if path.name == wanted.name]):
        return same_name
    names = {row.slide_id, *((wanted.name, wanted.stem) if wanted else ())}
    return [path for path in paths if path.stem in names or path.name in names]


def _unique_ids(pairs: list[_Pair]) -> list[str]:
    """Slide ids: the manifest's, else the file's stem, with a hash of the path if not unique."""
    wanted = [row.slide_id if row and row.slide_id else _safe(path) for path, row in pairs]
    count = Counter(map(fold_name, wanted))
    chosen = [
        slide_id
        if (row and row.slide_id) or count[fold_name(slide_id)] == 1
        else f"{slide_id}-{_path_hash(path)}"
        for slide_id, (path, row) in zip(wanted, pairs, strict=True)
    ]
    seen: dict[str, Path] = {}
    for slide_id, (path, _) in zip(chosen, pairs, strict=True):
        if (other := seen.setdefault(fold_name(slide_id), path)) is not path:
            raise UsageError(
                f"{other} and {path} would both be called {slide_id}; rename one of them"
            )
    return chosen


def _safe(path: Path) -> str:
    """Stem of the file if it can name a folder, else its safe characters and a hash of the path."""
    if not slide_id_problem(path.stem):
        return path.stem
    kept = re.sub(r"[^\w+=@ -]", "_", path.stem)  # no dots: nul.a.svs is a device on Windows
    most_bytes = MAX_ID_BYTES - 2 * (_HASH_CHARS + 1)
    kept = kept.strip("_ ").encode()[:most_bytes].decode(errors="ignore")
    return f"{kept or 'slide'}-{_path_hash(path)}"


def _path_hash(path: Path) -> str:
    return hashlib.sha1(os.fsencode(real_path(path)), usedforsecurity=False).hexdigest()[
        :_HASH_CHARS
    ]


def _with_data(path: Path) -> Path:
    """Path at which a slide opens.

    It is the target of a link to an .mrxs file if the slide's data are not beside the link, else
    the path itself.
    """
    if path.suffix.lower() != ".mrxs" or not path.is_symlink():
        return path
    index = path.with_suffix("") / _MRXS_INDEX
    if os.path.isfile(index):  # noqa: PTH113 - false where access is denied
        return path
    target = real_path(path)
    return path if path_problem(str(target)) else target
