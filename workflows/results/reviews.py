"""Files of reviews: ``review.csv``, and in ``review/`` the regions that are left out.

::

    review.csv                 one row for each slide and reviewer
    review/<slide_id>.geojson  regions that are left out, as QuPath reads them
    review/history.jsonl       every save, so that no earlier text or region is lost
    review/.areas/             areas without the regions, computed once for each result

Several processes may save at once: each takes a lock, reads what stands, changes the parts of one
reviewer, and replaces the file. A file that is damaged is never replaced.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noctile.pipeline.csv_cells import read_csv
from noctile.pipeline.errors import ReviewConflictError, StoreError, UsageError
from noctile.pipeline.review import (
    ReviewedAreas,
    check_review,
    combined_status,
    excluded_regions,
    region_feature,
    reviewed_areas,
    reviewer_of,
)
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import parse_json, printable, read_bytes
from noctile.workflows.results.files import json_text, read_whole_json, write_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.review_history import taken_regions
from noctile.workflows.results.review_rows import (
    Review,
    SlideReview,
    collection,
    digest,
    parse_rows,
    review_order,
    rows_text,
)
from noctile.workflows.results.shared_files import (
    damage,
    locked,
    refuse_links,
    remember,
    replace_text,
    result_key,
    time_text,
)

MAX_BYTES, MAX_VALUES = 2**25, 2**20
"""Largest file with reviews or regions (B), and most values in the regions of a slide."""


class Reviews:
    """All reviews of a folder of results.

    Args:
        results: the folder.
        keeps_areas: False to write no areas that were computed, where nothing may be written.
        saved: called after each change.
        now: gives the time of a change.
    """

    def __init__(
        self,
        results: ResultsFolder,
        *,
        keeps_areas: bool = True,
        saved: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._results, self._keeps_areas, self._now = results, keeps_areas, now
        self._saved = saved

    def all(self) -> list[Review]:
        """Return the rows of all slides, sorted by slide and reviewer.

        Raises:
            StoreError: if ``review.csv`` cannot be read.
        """
        path = self._results.review_csv
        refuse_links(path)
        try:
            return sorted(parse_rows(read_csv(path, MAX_BYTES)), key=review_order)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise damage(path, error) from error

    def of(self, slide_id: str) -> SlideReview:
        """Return the reviews of a slide.

        Raises:
            StoreError: if a file cannot be read.
        """
        rows = tuple(row for row in self.all() if row.slide_id == slide_id)
        return SlideReview(rows, self.regions(slide_id))

    def regions(self, slide_id: str) -> dict[str, Any]:
        """Return the regions of a slide that are left out, as a GeoJSON FeatureCollection.

        Raises:
            StoreError: if the file is damaged; the message names it.
        """
        path = self._results.review_regions(slide_id)
        refuse_links(self._results.review, path)
        try:
            values = _parsed(read_bytes(path, MAX_BYTES))
            values = {"features": values} if isinstance(values, list) else values
            if not isinstance(values, dict):
                raise ValueError("it is no FeatureCollection")
            excluded_regions(values, path.name)
        except FileNotFoundError:
            return collection(())
        except (OSError, ValueError, UsageError) as error:
            raise damage(path, error) from error
        return collection(values["features"])

    def reviewed(self) -> dict[str, list[Review]]:
        """Return the rows of each slide that has a row or a file with regions, by its id.

        Raises:
            StoreError: if ``review.csv`` cannot be read.
        """
        found: dict[str, list[Review]] = {}
        for row in self.all():
            found.setdefault(row.slide_id, []).append(row)
        refuse_links(self._results.review)
        for path in sorted(self._results.review.glob("*.geojson")):
            if not slide_id_problem(path.stem):
                found.setdefault(path.stem, [])
        return found

    def save(
        self, slide_id: str, reviewer: str, status: str, note: str, version: str
    ) -> SlideReview:
        """Save status and note of a reviewer; those of other reviewers stay.

        Args:
            slide_id: name of the slide.
            reviewer: name of the reviewer.
            status: one of `noctile.pipeline.review.STATUSES`.
            note: note of the reviewer.
            version: version of the reviews that the reviewer saw.

        Raises:
            ReviewConflictError: if the reviewer's review has changed since.
            UsageError: if the slide, the reviewer or the status is none, or the note is too long.
            StoreError: if a file is damaged, or the file system refuses.
        """
        _check_id(slide_id)
        check_review(reviewer, status, note)
        with self._locked():
            self._check(slide_id, reviewer, version)
            rows = self.all()
            others = [r for r in rows if (r.slide_id, r.reviewer) != (slide_id, reviewer)]
            more = next((r.more for r in rows if r not in others), ())
            about = self._time(), result_key(self._results.slide(slide_id))
            row = Review(slide_id, reviewer, status, note, *about, more)
            self._remember({"event": "review", **asdict(row)})
            self._write_rows([*others, row])
            return self.of(slide_id)

    def save_regions(
        self, slide_id: str, reviewer: str, features: Sequence[Any], version: str
    ) -> SlideReview:
        """Replace the regions of a reviewer; those of other reviewers stay. See `save`.

        Args:
            slide_id: name of the slide.
            reviewer: name of the reviewer.
            features: GeoJSON features; those of other reviewers among them change nothing.
            version: version of the reviews that the reviewer saw.

        Raises:
            ReviewConflictError: if the reviewer's review has changed since.
            UsageError: if a feature is no polygon, or has no known reason.
            StoreError: if a file is damaged, or the file system refuses.
        """
        _check_id(slide_id)
        check_review(reviewer, "", "")
        time = self._time()
        own = [
            region_feature(feature, reviewer, time)
            for feature in features
            if reviewer_of(feature) in ("", reviewer)
        ]
        with self._locked():
            current = self._check(slide_id, reviewer, version).regions["features"]
            kept = [feature for feature in current if reviewer_of(feature) != reviewer]
            ids = {str(feature.get("id")) for feature in kept}
            own = [feature for feature in own if feature["id"] not in ids]
            excluded_regions({"features": [*kept, *own]}, "the review")
            event = {"event": "regions", "slide_id": slide_id, "reviewer": reviewer, "time": time}
            self._remember({**event, "features": own})
            self._write_regions(slide_id, [*kept, *own])
            return self.of(slide_id)

    def take(self, others: Sequence[tuple[str, SlideReview]]) -> list[Review]:
        """Add reviews from another folder; what a reviewer has said here stays.

        The history has all of them, also those that are not added. A region that was taken before
        and has gone since is not taken again.

        Args:
            others: ids of slides in this folder, with their reviews there.

        Returns:
            rows that were not added, because the same reviewer has another one here.

        Raises:
            StoreError: if a file is damaged, or the file system refuses.
        """
        if not others:
            return []
        with self._locked():
            here = {review_order(row): row for row in self.all()}
            known, second = len(here), list[Review]()
            for row in (replace(r, slide_id=i) for i, other in others for r in other.reviews):
                stands = here.setdefault(review_order(row), row)
                if (stands.status, stands.note) != (row.status, row.note):
                    second.append(row)
            for row in (*list(here.values())[known:], *second):
                self._remember({"event": "taken", **asdict(row)})
            if len(here) > known:
                self._write_rows(here.values())
            before = taken_regions(self._results.review_history)
            for slide_id, other in others:
                taken = before.get(slide_id, [])
                self._take_regions(slide_id, other.regions["features"], taken)
        return second

    def _take_regions(self, slide_id: str, features: Sequence[Any], taken: Sequence[Any]) -> None:
        """Add regions that are not here and were never taken; a damaged file here stays."""
        if not features:
            return
        here = self.regions(slide_id)["features"]
        known = [*here, *taken]
        new = [feature for feature in features if not any(_is_twin(feature, own) for own in known)]
        if new:
            event = {"event": "taken", "slide_id": slide_id, "time": self._time()}
            self._write_regions(slide_id, [*here, *new])
            self._remember({**event, "features": new})  # last: after a kill they are taken again

    def areas(self, slide_id: str, summary: Mapping[str, Any]) -> ReviewedAreas | None:
        """Return the areas of a slide without its regions; None if there are none.

        They are computed once for each result and each state of the regions.

        Args:
            slide_id: name of the slide.
            summary: content of its ``summary.json``.

        Raises:
            StoreError: if a file is damaged, or the file system refuses.
        """
        regions = self.regions(slide_id)
        if not regions["features"]:
            return None
        key = digest(json.dumps([regions, summary], sort_keys=True))
        path = self._results.review_areas(slide_id)
        if cached := _cached_areas(path, key):
            return cached
        from noctile.pipeline.export.source import ExportSource  # noqa: PLC0415 - loads Zarr

        try:
            polygons = excluded_regions(regions, self._results.review_regions(slide_id).name)
            source = ExportSource.open(self._results.slide(slide_id).mask, summary)
            areas = reviewed_areas(source, polygons)
        except (UsageError, OverflowError) as error:
            raise damage(self._results.review_regions(slide_id), error) from error
        if self._keeps_areas and not path.parent.is_symlink():
            with suppress(StoreError):  # they are computed again
                write_json(path, {"key": key, "areas": asdict(areas)})
        return areas

    def status_cells(self, rows: Sequence[Review], summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a slide's row that its reviewers fill, by the name of their column.

        Args:
            rows: reviews of the slide.
            summary: content of its ``summary.json``; empty if it is not done.
        """
        given = [row for row in rows if row.status or row.note]
        cells: dict[str, Any] = {
            "review_status": combined_status(row.status for row in given),
            "reviewers": "; ".join(sorted({row.reviewer for row in given})),
        }
        cells = {name: text for name, text in cells.items() if text}
        seen = {row.result for row in given} - {""}
        if given and summary:
            is_current = seen <= {str(summary.get("key", ""))}
            cells["reviewed_result"] = "current" if is_current else "earlier"
        return cells

    def area_cells(self, slide_id: str, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a slide's row with areas that are left out; none if there are none.

        Args:
            slide_id: name of the slide.
            summary: content of its ``summary.json``; empty if it is not done.

        Raises:
            StoreError: if the regions or the result are damaged.
        """
        areas = self.areas(slide_id, summary) if summary else None
        if areas is None:
            return {}
        tissue, tumor = areas.reviewed_tissue_area_mm2, areas.reviewed_tumor_area_mm2
        share = round(tumor / tissue, 6) if tissue else None
        return asdict(areas) | {"reviewed_tumor_fraction_of_tissue": share}

    def _check(self, slide_id: str, reviewer: str, version: str) -> SlideReview:
        current = self.of(slide_id)
        parts = dict(part.split(":", 1) for part in version.split() if ":" in part)
        if parts.get(digest(reviewer), "") != current.part(reviewer):
            raise ReviewConflictError(
                f"the review of {slide_id} by {printable(reviewer)} has changed since it was shown",
                current,
            )
        return current

    def _time(self) -> str:
        return time_text(self._now())

    def _write_rows(self, rows: Iterable[Review]) -> None:
        replace_text(self._results.review_csv, rows_text(rows), self._results.path)

    def _write_regions(self, slide_id: str, features: Sequence[Any]) -> None:
        path = self._results.review_regions(slide_id)
        replace_text(path, json_text(collection(features)), self._results.path)

    def _remember(self, event: Mapping[str, Any]) -> None:
        remember(self._results.review_history, [event])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self._results.review, self._results.review_csv):
            yield
        self._saved()


def _check_id(slide_id: str) -> None:
    """Check that a slide_id can name a file.

    Raises:
        UsageError: if it cannot.
    """
    if problem := slide_id_problem(slide_id):
        raise UsageError(f"{printable(slide_id)!r} can name no slide: {problem}")


def _parsed(content: bytes) -> Any:
    """Parse JSON that does not hold too many values; they are counted before memory is taken.

    Raises:
        ValueError: if it does, or is no JSON.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it holds more than {MAX_VALUES} values")
    return parse_json(content, MAX_VALUES)


def _cached_areas(path: Path, key: str) -> ReviewedAreas | None:
    """Areas that were computed for a key; None if there are none, or the file cannot be used."""
    try:
        cached = read_whole_json(path) or {}
    except StoreError:
        return None
    areas = cached.get("areas")
    if cached.get("key") != key or not isinstance(areas, dict):
        return None
    found = [areas.get(field.name) for field in fields(ReviewedAreas)]
    values = [value for value in found if isinstance(value, float) and math.isfinite(value)]
    return ReviewedAreas(*values) if len(values) == len(found) else None


def _is_twin(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell if two regions are one: by their id, or by their geometry if one has no id."""
    if one.get("id") and other.get("id"):
        return bool(one["id"] == other["id"])
    return bool(one["geometry"] == other["geometry"])
