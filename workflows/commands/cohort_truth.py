"""Annotations of whole slides for a cohort: their files, and the true and predicted areas."""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from noctile.pipeline.arrays import Float64
from noctile.pipeline.columns import class_of
from noctile.pipeline.errors import UsageError
from noctile.pipeline.export.names import file_stems
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.patients.analysis import Analysis
from noctile.pipeline.patients.annotated import SlideTruth, Truth
from noctile.pipeline.patients.flow import why_excluded
from noctile.pipeline.patients.join import Joined
from noctile.pipeline.patients.question import Question
from noctile.pipeline.patients.truth_pixels import code_annotations, count_truth
from noctile.pipeline.review import excluded_pixels, excluded_regions, regions_cut
from noctile.pipeline.truth.corrections import MAX_EXPORTED
from noctile.pipeline.truth.geojson import (
    SUFFIXES,
    Annotation,
    annotated_name,
    is_geojson,
    read_annotations,
)
from noctile.pipeline.untrusted import open_regular, printable
from noctile.pipeline.wrong_values import did_you_mean
from noctile.workflows.commands.opened import open_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews

Row = Mapping[str, Any]

_EXPORT: Final = re.compile(rb'"noctile"\s*:\s*\{')
"""Mark near the start of GeoJSON that ``noctile export`` wrote; QuPath does not write it again."""

_HEAD_BYTES: Final = 4096

_ROUNDING_MM2: Final = 1e-6
"""Rounding of an area in a table (mm2)."""


def read_cohort_truth(
    results: ResultsFolder,
    rows: Sequence[Row],
    joined: Joined,
    analysis: Analysis,
    folder: Path,
) -> Truth:
    """Read the annotations of slides that answer a question.

    Only the masks of these slides are read, and of others the blocks with regions that reviewers
    left out.

    Args:
        results: folder of results.
        rows: rows of the table of slides.
        joined: patients of the cohort.
        analysis: the analysis.
        folder: folder of GeoJSON files, one for each slide.

    Raises:
        UsageError: if a file cannot be used, or the slides have different classes.
        StoreError: if a result is damaged.
    """
    files = _files(folder, rows)
    counting = {s.slide_id for p in analysis.values.patients for s in p.analysed}
    slides = _Slides(results, rows)
    classes = slides.classes(min(counting)) if counting else ()
    truths = {i: slides.truth(i, path, classes) for i, path in files.items() if i in counting}
    reasons = _reasons(joined, analysis.question)
    return Truth(
        classes,
        {slide_id: slides.predicted_mm2(slide_id, classes) for slide_id in sorted(counting)},
        truths,
        {p.name: (i, reasons[i]) for i, p in files.items() if i not in counting},
    )


def _files(folder: Path, rows: Iterable[Row]) -> dict[str, Path]:
    """File of each annotated slide, by slide_id.

    Raises:
        UsageError: if there are none, a file belongs to no slide, or a slide has two files.
    """
    try:
        found = sorted(p for p in folder.iterdir() if is_geojson(p) and p.name[0] != ".")
    except OSError as error:
        raise UsageError(f"--truth {folder} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UsageError(
            f"--truth {folder} holds no {' and no '.join(SUFFIXES)}; export the annotations of "
            "each slide from QuPath as <slide_id>.geojson"
        )
    paths = {str(row["slide_id"]): str(row["path"]) for row in rows}
    names = {stem: slide_id for slide_id, stem in file_stems(paths).items()}
    names |= {slide_id: slide_id for slide_id in paths}
    files = dict[str, Path]()
    for path in found:
        name = annotated_name(path)
        if name not in names:
            raise UsageError(
                f"annotations {path}: the results know no slide {printable(name)!r:.80}"
                f"{did_you_mean(name, list(names))}. Give the file the slide_id as name, or move "
                "it away"
            )
        if (other := files.setdefault(names[name], path)) != path:
            raise UsageError(f"annotations {other} and {path} are of one slide; move one away")
    return files


def _reasons(joined: Joined, question: Question) -> dict[str, str]:
    """Code of the reason why a slide is not part of a question, by slide_id; "" if it is."""
    return {
        slide.slide_id: slide.reason or why_excluded(joined, question, patient)
        for patient in joined.patients
        for slide in patient.slides
    }


class _Slides:
    """Predicted and true areas of the slides of a folder of results.

    Args:
        results: the folder.
        rows: rows of its table of slides.
    """

    def __init__(self, results: ResultsFolder, rows: Iterable[Row]) -> None:
        self._results, self._opened = results, open_results(results.path)
        self._rows = {str(row["slide_id"]): row for row in rows}
        self._reviews = Reviews(results, keeps_areas=False)

    def classes(self, slide_id: str) -> tuple[str, ...]:
        """Names of the classes of a slide.

        Raises:
            StoreError: if the result is damaged.
        """
        return tuple(info.name for info in self._source(slide_id).store.layout.classes)

    def truth(self, slide_id: str, path: Path, classes: Sequence[str]) -> SlideTruth:
        """True areas of a slide.

        Raises:
            UsageError: if the annotations cannot be used, or the slide has other classes.
            StoreError: if the result is damaged.
        """
        source = self._source(slide_id)
        codes = _codes(source, classes)
        _refuse_export(path)
        annotations = read_annotations(path, most=MAX_EXPORTED)
        coded = code_annotations(annotations, source.classes, f"annotations {path}")
        regions, (scale_y, scale_x) = self._regions(slide_id), source.qupath_scale
        left_out = regions_cut(source, regions) if regions else None
        counts = count_truth(source.store, coded, (1 / scale_y, 1 / scale_x), left_out)
        analysed = int(counts.sum())
        covered = 1 - int(counts[0]) / analysed if analysed else 1.0
        areas = np.asarray(counts[codes] * source.frames[0].pixel_area_mm2, np.float64)
        return SlideTruth(path.name, covered, areas)

    def predicted_mm2(self, slide_id: str, classes: Sequence[str]) -> Float64:
        """Predicted area of each class (mm2), without regions that reviewers left out.

        Raises:
            UsageError: if the slide has other classes.
            StoreError: if the result is damaged.
        """
        row = self._rows[slide_id]
        filled = ((class_of(name), cell) for name, cell in row.items() if cell is not None)
        found = {name: cell for name, cell in filled if name is not None}
        if found.keys() != set(classes):
            raise _other_classes(slide_id)
        areas = np.array([found[name] for name in classes], np.float64)
        if row.get("excluded_area_mm2") is not None:
            source, regions = self._source(slide_id), self._regions(slide_id)
            pixels = excluded_pixels(source, regions)[_codes(source, classes)]
            areas = areas - pixels * source.frames[0].pixel_area_mm2
        return np.where(areas > _ROUNDING_MM2, areas, 0.0)

    def _source(self, slide_id: str) -> ExportSource:
        """Result of a slide, whose files are checked."""
        summary = self._opened[slide_id].summary
        return ExportSource.open(self._results.slide(slide_id).mask, summary)

    def _regions(self, slide_id: str) -> list[Annotation]:
        """Regions of a slide that reviewers left out."""
        path = self._results.review_regions(slide_id)
        return excluded_regions(self._reviews.regions(slide_id), path.name)


def _codes(source: ExportSource, classes: Sequence[str]) -> list[int]:
    """Code of each class in the label map of a slide.

    Raises:
        UsageError: if the slide has other classes.
    """
    codes = {info.name: info.code for info in source.classes}
    if codes.keys() != set(classes):
        raise _other_classes(source.slide_id)
    return [codes[name] for name in classes]


def _other_classes(slide_id: str) -> UsageError:
    return UsageError(
        f"{slide_id} has other classes than other slides, and --truth needs one model for all; "
        "`noctile regroup` gives them the same classes"
    )


def _refuse_export(path: Path) -> None:
    """Refuse an unchanged file of ``noctile export``, which holds predictions.

    Raises:
        UsageError: if it is one, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
        if head[:2] == b"\x1f\x8b":
            head = zlib.decompressobj(wbits=31).decompress(head, _HEAD_BYTES)
    except (OSError, zlib.error) as error:
        raise UsageError(f"annotations {path} cannot be read: {error}") from error
    if _EXPORT.search(head):
        raise UsageError(
            f"annotations {path} are an export of noctile: predictions, not the truth. Import them "
            "into QuPath, correct them, and export them from there"
        )
