"""Search for the slides of a run, in files, folders, globs and a manifest."""

import glob
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.dicom import DicomHeader, header_or_none
from noctile.pipeline.slides.image import IMAGE_SUFFIXES
from noctile.pipeline.slides.links import data_path, is_link, real_path, series_sizes
from noctile.pipeline.slides.manifest import ManifestRow, read_manifest
from noctile.pipeline.slides.names import path_problem, shown_path, unique_ids
from noctile.pipeline.slides.pairing import Pair, listed_slides, pair_rows
from noctile.pipeline.slides.search import FileSearch, Problem

_DICOM_SUFFIX = ".dcm"

SLIDE_SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", _DICOM_SUFFIX, ".scn"),
    *(".vms", ".vmu", ".bif", ".svslide", ".czi", ".qptiff"),
)
"""Endings of slide files in a folder or a glob. (openslide.org/formats; OME-TIFF ends in .tif,
.tiff or .btf)

Plain images (.png, .jpg) are not among them: beside slides they are previews, thumbnails and masks.
"""

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
        bgr: True if the manifest states BGR order, False if RGB order; None to detect the order.
        roi: absolute path of the regions of interest that the manifest gives, or None.
        tissue_mask: absolute path of the tissue mask that the manifest gives, or None.
    """

    slide_id: str
    path: Path
    mpp: tuple[float, float] | None
    patient_id: str | None
    group: str | None
    extra: tuple[tuple[str, str], ...]
    named: bool = False
    bgr: bool | None = None
    roi: Path | None = None
    tissue_mask: Path | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One path that a folder or a glob holds and that is not taken as a slide.

    Attributes:
        slide_id: name of the path in the tables; unique among the slides and paths of the call.
        path: absolute path; characters that cannot stand in a table are escaped.
        reason: reason code, a colon and a message.
    """

    slide_id: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Slides of a call, and the paths that were found but not taken.

    Attributes:
        slides: slides, sorted by slide_id. Their files may be missing if the call names them.
        left_out: paths that are not taken, sorted by path.
    """

    slides: list[SlideEntry]
    left_out: list[LeftOut]


def find_slides(
    arguments: Sequence[str | Path],
    manifest: Path | None,
    mpp: float | None,
    *,
    images: bool = False,
    warn: Callable[[str], None] = warnings.warn,
) -> Found:
    """Find the slides of a call, each once.

    Without a manifest, the arguments name the slides. Without arguments, the rows of the manifest
    name them, also if the files do not exist. With both, the manifest adds to the slides among the
    arguments.

    Links to files and folders are followed. A slide at the end of a link is named after the link.
    Several paths to one file are one slide, named after the first path in sorted order. A broken
    link, a link in a circle, a file or folder that cannot be read, and a name that cannot stand in
    a table are left out. A file that an argument names and that does not exist is a slide: it fails
    when it is opened.

    The slide_id is the manifest's, or else the file's name without its ending. Equal names get the
    names of their folders in front, see `unique_ids`.

    Args:
        arguments: files with any name, folders, which are searched with their subfolders except
            hidden ones, and globs (``**`` for any depth); ``~`` is the home folder. Plain images in
            a folder are left out. A glob that ends in .png, .jpg or .jpeg matches them.
        manifest: a CSV file or an Excel workbook, see `read_manifest`.
        mpp: size of a level-0 pixel (um) for slides without one in the manifest; None for the
            file's.
        images: find the plain images in folders too.
        warn: called with a line for each path that is left out or is another name of a slide, each
            argument without a slide, and rows of the manifest without a slide.

    Raises:
        UsageError: if there is nothing to read, no argument matches a slide, or the manifest cannot
            be used.
    """
    rows = read_manifest(manifest) if manifest else []
    if not arguments and not rows:
        raise UsageError("no slides: name files, folders or globs, or a manifest")
    search = _Search(images)
    if arguments:
        paths = search.slides(arguments)
        pairs = pair_rows(paths, rows, search.problems, warn)
    else:
        pairs = listed_slides(rows)
    given, sizes = None if mpp is None else (mpp, mpp), cache(series_sizes)
    entries = [
        _entry(slide_id, _opens_at(path, sizes), row, given)
        for slide_id, (path, row) in zip(_slide_ids(pairs), pairs, strict=True)
    ]
    for line in search.lines():
        warn(line)
    return Found(
        sorted(entries, key=lambda entry: entry.slide_id),
        _left_out(search.problems, [entry.slide_id for entry in entries]),
    )


def _entry(
    slide_id: str, path: Path, row: ManifestRow | None, mpp: tuple[float, float] | None
) -> SlideEntry:
    """Entry of a slide; ``mpp`` (um; y, x) is used if the manifest has none."""
    if row is None:
        return SlideEntry(slide_id, path, mpp, None, None, ())
    about = row.mpp or mpp, row.patient_id, row.group, row.extra
    files = row.roi, row.tissue_mask
    return SlideEntry(slide_id, path, *about, row.slide_id is not None, row.bgr, *files)


def _opens_at(path: Path, sizes: Callable[[Path], Counter[str]]) -> Path:
    """Path at which all files of a slide are found; see `data_path`."""
    parts = is_link(path) and (path.suffix.lower() == ".mrxs" or _header(path))
    return data_path(path, sizes) if parts else path


def _left_out(problems: dict[Path, Problem], taken: Iterable[str]) -> list[LeftOut]:
    """Paths with problems, under ids that no slide has."""
    return [
        LeftOut(slide_id, shown_path(path), f"{problems[path].code}: {problems[path].message}")
        for path, slide_id in unique_ids(problems, taken).items()
    ]


def _slide_ids(pairs: Sequence[Pair]) -> list[str]:
    """Slide ids: the manifest's, else made from the paths."""
    named = [row.slide_id for _, row in pairs if row and row.slide_id]
    made = unique_ids([path for path, _ in pairs], named)
    return [(row and row.slide_id) or made[path] for path, row in pairs]


@dataclass
class _Search:
    """Search for the slides of the arguments of a call.

    Attributes:
        images: find the plain images in folders too.
        problems: reason why each path is left out.
        renamed: a line for each path that has another name than an earlier path to the same file.
        unmatched: a line for each argument that matches no slide.
    """

    images: bool
    problems: dict[Path, Problem] = field(default_factory=dict)
    renamed: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def slides(self, arguments: Sequence[str | Path]) -> list[Path]:
        """Paths of the slides: absolute, sorted, each file and DICOM series once.

        Files that do not exist are among them, if an argument names them and there are others.

        Raises:
            UsageError: if no argument matches a slide.
        """
        files, missing = list[Path](), list[Path]()
        for argument in arguments:
            found, absent = self._match(str(argument))
            files += found
            missing += absent
        files = self._once(sorted(files))
        self._join_problems()
        if not files:
            absent_lines = [
                f"{shown_path(path)!r} matches no slide: it does not exist" for path in missing
            ]
            reasons = [*self.unmatched, *absent_lines, *self._problem_lines()]
            raise UsageError("no slides: " + "; ".join(reasons[:_SHOWN_PROBLEMS]))
        return sorted({*_one_per_series(files), *self._once(sorted(missing))})

    def lines(self) -> list[str]:
        """Lines for the user about paths and arguments that are not taken as they were found."""
        return [*self._problem_lines(), *self.renamed, *self.unmatched]

    def _problem_lines(self) -> list[str]:
        return [
            f"{shown_path(path)} is left out: {problem.message}"
            for path, problem in self.problems.items()
        ]

    def _join_problems(self) -> None:
        """Keep one problem of paths that lead to the same place through several links."""
        first: dict[Path, Path] = {}
        for path in sorted(self.problems):
            first.setdefault(real_path(path.parent) / path.name, path)
        kept = set(first.values())
        self.problems = {path: why for path, why in self.problems.items() if path in kept}

    def _once(self, paths: Iterable[Path]) -> list[Path]:
        """First path to each file; names that cannot stand in a table are left out."""
        files: dict[Path, Path] = {}
        for path in paths:
            if reason := path_problem(str(path)):
                cure = "Rename the file or its folder"
                self.problems[path] = Problem("bad_name", f"its path {reason}. {cure}")
                continue
            first = files.setdefault(real_path(path), path)
            if first.stem != path.stem:
                self.renamed.append(
                    f"{path} is the same file as {first}. They are one slide, named after "
                    f"{first.name}"
                )
        return list(files.values())

    def _match(self, argument: str) -> tuple[list[Path], list[Path]]:
        """Files that an argument matches, and the path that it names if that does not exist.

        Both are empty if the search has found problems instead, or nothing.
        """
        if not argument:
            raise UsageError(
                "one of the slides is an empty name, perhaps a shell variable without a value. "
                "Name a file, folder or glob"
            )
        search = FileSearch((*SLIDE_SUFFIXES, *IMAGE_SUFFIXES) if self.images else SLIDE_SUFFIXES)
        try:
            path = _absolute(argument)
            if search.is_broken_link(path):
                self.problems |= search.problems
                return [], []
            if path.is_file():
                return [path], []
            searched = path.is_dir() or glob.has_magic(argument)
        except RuntimeError as error:  # ~ of an unknown user
            self.unmatched.append(f"{argument!r:.200} matches no slide: {error}")
            return [], []
        except OSError:  # a name that is too long, or a folder that must not be read
            return [], [path]
        if not searched:
            return [], [path]
        return self._matched(argument, path, search), []

    def _matched(self, argument: str, path: Path, search: FileSearch) -> list[Path]:
        """Files of a folder or a glob."""
        own = (path.suffix.lower(),) if path.suffix.lower() in IMAGE_SUFFIXES else ()
        paths = search.files(path, own)
        self.problems |= search.problems
        if not paths and not search.problems:
            ignored = [] if self.images else FileSearch(IMAGE_SUFFIXES).files(path)
            self.unmatched.append(f"{argument!r} matches no slide: {_why_none(ignored)}")
        return paths


def _absolute(argument: str) -> Path:
    """Absolute path of an argument without ``..``, so that its folders can name slides.

    Raises:
        RuntimeError: if it begins with ``~`` of an unknown user.
    """
    path = Path(argument).expanduser().absolute()
    if ".." not in path.parts:
        return path
    end = len(path.parts) - path.parts[::-1].index("..")
    return real_path(Path(*path.parts[:end])).joinpath(*path.parts[end:])


def _why_none(images: list[Path]) -> str:
    """Reason why an argument with these plain images, or with no file, has no slide."""
    if images:
        return (
            f"only {len(images)} plain images such as {images[0]}. In a folder those may be "
            "previews or masks. To use them, name the files or a glob that ends in their suffix, "
            "for instance 'regions/*.png'"
        )
    return f"nothing there, or nothing that ends in {' '.join(SLIDE_SUFFIXES)}"


def _one_per_series(files: Iterable[Path]) -> Iterator[Path]:
    """Yield the files; of a DICOM series in a folder only the file with the most pixels."""
    series = defaultdict(list)
    sizes = cache(series_sizes)
    for file in files:
        header = _header(file)
        if header:
            home = real_path(data_path(file, sizes).parent)
            series[home, header.series].append((-header.pixel_count, file))
        else:
            yield file
    yield from (min(members)[1] for members in series.values())


def _header(file: Path) -> DicomHeader | None:
    """Header of a DICOM file; None for other files, and for one that cannot be read.

    A file that cannot be read fails when it is opened.
    """
    suffix = file.suffix.lower()
    if suffix in (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES) and suffix != _DICOM_SUFFIX:
        return None
    return header_or_none(file)
