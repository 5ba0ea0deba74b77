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
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from noctile.pipeline.csv_cells import read_csv
from noctile.pipeline.errors import ReviewConflictError, StoreError, UsageError
from noctile.pipeline.review import (
    ReviewedAreas,
    combined_status,
    excluded_regions,
    region_feature,
    reviewed_areas,
    reviewer_of,
)
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.untrusted import parse_json, printable, read_bytes
from noctile.workflows.results.durable import sync_file, sync_folder
from noctile.workflows.results.files import read_whole_json, write_atomic, write_json
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.review_rows import (
    Review,
    SlideReview,
    collection,
    digest,
    parse_rows,
    review_order,
    rows_text,
    summary_digest,
)

if sys.platform != "win32":
    import fcntl

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
        try:
            return sorted(parse_rows(read_csv(path, MAX_BYTES)), key=review_order)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}; mend it, or move it away") from error

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
        try:
            values = parse_json(read_bytes(path, MAX_BYTES), MAX_VALUES)
            values = {"features": values} if isinstance(values, list) else values
            if not isinstance(values, dict):
                raise ValueError("it is no FeatureCollection")
            excluded_regions(values, path.name)
        except FileNotFoundError:
            return collection(())
        except (OSError, ValueError, UsageError) as error:
            raise StoreError(f"{path} cannot be read: {error}; mend it, or move it away") from error
        return collection(values["features"])

    def reviewed(self) -> dict[str, list[Review]]:
        """Return the rows of each slide that has a row or a file with regions, by its id.

        Raises:
            StoreError: if ``review.csv`` cannot be read.
        """
        found: dict[str, list[Review]] = {}
        for row in self.all():
            found.setdefault(row.slide_id, []).append(row)
        for path in self._results.review.glob("*.geojson"):
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
            StoreError: if a file is damaged, or the file system refuses.
        """
        with self._locked():
            self._check(slide_id, reviewer, version)
            rows = self.all()
            others = [r for r in rows if (r.slide_id, r.reviewer) != (slide_id, reviewer)]
            more = next((r.more for r in rows if r not in others), ())
            row = Review(
                slide_id, reviewer, status, note, self._time(), self._result(slide_id), more
            )
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

    def take(self, slide_id: str, other: SlideReview) -> None:
        """Add reviews from another folder; what a reviewer has said here stays.

        Args:
            slide_id: name of the slide in this folder.
            other: its reviews there.

        Raises:
            StoreError: if a file is damaged, or the file system refuses.
        """
        if not (other.reviews or other.regions["features"]):
            return
        with self._locked():
            here = self.of(slide_id)
            names = {row.reviewer for row in here.reviews}
            new = [replace(r, slide_id=slide_id) for r in other.reviews if r.reviewer not in names]
            ids = {str(feature.get("id")) for feature in here.regions["features"]}
            regions = [f for f in other.regions["features"] if str(f.get("id")) not in ids]
            rows = [asdict(row) for row in new]
            self._remember({"event": "taken", "reviews": rows, "features": regions})
            self._write_rows([*self.all(), *new])
            if regions:
                self._write_regions(slide_id, [*here.regions["features"], *regions])

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
        key = digest(json.dumps(regions, sort_keys=True) + summary_digest(summary))
        path = self._results.review_areas(slide_id)
        cached = read_whole_json(path) or {}
        if cached.get("key") == key:
            return ReviewedAreas(**cached["areas"])
        from noctile.pipeline.export.source import ExportSource  # noqa: PLC0415 - loads Zarr

        try:
            polygons = excluded_regions(regions, self._results.review_regions(slide_id).name)
            source = ExportSource.open(self._results.slide(slide_id).mask, summary)
            areas = reviewed_areas(source, polygons)
        except UsageError as error:
            raise StoreError(str(error)) from error
        if self._keeps_areas:
            write_json(path, {"key": key, "areas": asdict(areas)})
        return areas

    def status_cells(self, rows: Sequence[Review], summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a slide's row that its reviewers fill, by the name of their column.

        Args:
            rows: reviews of the slide.
            summary: content of its ``summary.json``; empty if it is not done.
        """
        given = [row for row in rows if row.status or row.note]
        cells = {
            "review_status": combined_status(row.status for row in given),
            "reviewers": "; ".join(sorted({row.reviewer for row in given})),
        }
        result = summary_digest(summary) if summary else ""
        earlier = any(row.result not in ("", result) for row in given)
        if given and summary:
            cells["reviewed_result"] = "earlier" if earlier else "current"
        return {name: text for name, text in cells.items() if text}

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
        return self._now().astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def _result(self, slide_id: str) -> str:
        summary = read_whole_json(self._results.slide(slide_id).summary)
        return summary_digest(summary) if summary else ""

    def _write_rows(self, rows: Iterable[Review]) -> None:
        path, text = self._results.review_csv, rows_text(rows)
        write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))
        sync_folder(path.parent)

    def _write_regions(self, slide_id: str, features: Sequence[Any]) -> None:
        path = self._results.review_regions(slide_id)
        if path.is_symlink():
            raise StoreError(f"{path} is a link, which Noctile does not replace")
        write_json(path, collection(features))
        sync_folder(path.parent)

    def _remember(self, event: Mapping[str, Any]) -> None:
        """Append an event to the history.

        Raises:
            StoreError: if the file system refuses.
        """
        path = self._results.review / "history.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event, ensure_ascii=False) + "\n")
            sync_file(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of all reviews of the folder.

        Raises:
            StoreError: if ``review`` is a link, or the file system refuses.
        """
        folder = self._results.review
        if folder.is_symlink() or self._results.review_csv.is_symlink():
            raise StoreError(f"{folder} or review.csv is a link, which Noctile does not follow")
        try:
            folder.mkdir(exist_ok=True)
            handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
        try:
            if sys.platform != "win32":
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)
        self._saved()
