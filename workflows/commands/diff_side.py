"""Folder of results on one side of a comparison; it is only read."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.slides.names import slide_id_problem
from noctile.workflows.commands.diff_match import DAMAGED, Known
from noctile.workflows.results.files import read_json
from noctile.workflows.results.guard import check_holds_results, check_links
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.standing import Standing


class ComparedFolder:
    """Folder of results that is compared with another one.

    Args:
        path: the folder.

    Attributes:
        name: path as the user typed it.
        results: paths in the folder.
        rows: row of each slide that the folder knows, by id.
        slides: what the matching needs of each of them, by id.

    Raises:
        UsageError: if the folder holds no results, a part of it is a link, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.results = str(path), ResultsFolder(path.resolve())
        check_holds_results(self.results, path)
        try:
            check_links(self.results)
            self._state = Ledger(self.results.ledger, read_only=True).state
            standing = Standing(self.results, self._state, reads_only=True)
            self.rows = {row.slide_id: row for row in standing.rows()}
        except (OSError, StoreError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
        self.slides = {
            slide_id: self._known(row, is_damaged=slide_id in standing.damaged)
            for slide_id, row in self.rows.items()
        }

    def _known(self, row: SlideRow, *, is_damaged: bool) -> Known:
        slide = self._state.slide(row.slide_id)
        prints = (row.summary.get(name) or "" for name in ("fingerprint", "content_sha256"))
        sampled, full = map(str, prints)
        why = ": ".join(filter(None, (row.reason, row.message)))
        done, status = row.status == "done", DAMAGED if is_damaged else row.status
        fingerprint = sampled or slide.fingerprint
        return Known(row.slide_id, fingerprint, full, done, status, "" if done else why)

    def provenance(self, slide_ids: Iterable[str]) -> dict[str, Any]:
        """Models, versions and runs that made some results, as plain values.

        Args:
            slide_ids: ids of slides that are done.
        """
        rows = [self.rows[slide_id] for slide_id in slide_ids]
        models = {
            (str(row.summary.get("model")), str(row.summary.get("model_sha256"))) for row in rows
        }
        runs = sorted({row.run for row in rows if row.run})
        return {
            "results": str(self.results.path),
            "slides": len(self.rows),
            "models": [{"name": name, "sha256": sha256} for name, sha256 in sorted(models)],
            "backends": sorted({str(row.summary.get("backend")) for row in rows}),
            "versions": _versions(row.summary for row in rows),
            "runs": runs,
            "settings": different_values(
                [run_record(self.results, run).get("settings") for run in runs]
            ),
        }


def run_record(results: ResultsFolder, run: str) -> Mapping[str, Any]:
    """Record of a run; empty if it is missing or damaged."""
    try:
        return {} if slide_id_problem(run) else read_json(results.run_record(run)) or {}
    except StoreError:
        return {}


def _versions(summaries: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Versions of each library that made some results, by its name."""
    return {
        name: [str(value) for value in values]
        for name, values in different_values([s.get("versions") for s in summaries]).items()
    }


def different_values(records: Iterable[Any]) -> dict[str, list[Any]]:
    """Different values of each key in some records, by the key; what is no record is left out."""
    found: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items() if isinstance(record, Mapping) else ():
            if value not in found.setdefault(str(name), []):
                found[str(name)].append(value)
    return dict(sorted(found.items()))


def differing(a: Mapping[str, Any], b: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Settings or versions in which two provenances differ.

    Args:
        a: provenance of the first folder.
        b: provenance of the second folder.
        part: ``settings`` or ``versions``.
    """
    ours, theirs = a[part], b[part]
    return [
        {"name": name, "a": ours.get(name, []), "b": theirs.get(name, [])}
        for name in sorted({*ours, *theirs})
        if ours.get(name, []) != theirs.get(name, [])
    ]
