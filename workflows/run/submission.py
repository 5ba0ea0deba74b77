"""Slides of a call, under the ids that they have in the folder of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noctile.pipeline.errors import RoiError, TissueMaskError, UsageError
from noctile.pipeline.slides.discover import LeftOut, SlideEntry
from noctile.pipeline.slides.fingerprint import file_state, fingerprint
from noctile.pipeline.slides.identity import ID_TAKEN, KnownSlide, settle_ids, settle_left_out
from noctile.pipeline.slides.manifest import ManifestRow
from noctile.workflows.engines.base import Failure
from noctile.workflows.jobs.messages import RunContext
from noctile.workflows.jobs.provenance import confinement, given_values
from noctile.workflows.results.ledger import Ledger
from noctile.workflows.results.ledger_state import LedgerState
from noctile.workflows.results.standing import Standing

_NAMED = 3
"""Number of slides that an error message names."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Slides that a call works on.

    Attributes:
        entries: slides under their ids in the folder of results.
        refused: failure of each entry whose id belongs to another slide, by its id.
        left_out: paths that the call found and does not take.
        notes: a line for each slide whose id is not the one that the manifest gives.
    """

    entries: Sequence[SlideEntry]
    refused: dict[str, Failure]
    left_out: Sequence[LeftOut]
    notes: Sequence[str]


def settle(
    entries: Sequence[SlideEntry],
    left_out: Sequence[LeftOut],
    standing: Standing,
    state: LedgerState,
) -> Submission:
    """Give each slide of a call its id in a folder of results.

    A slide that the folder knows keeps its id, also if it was moved or renamed.

    Args:
        entries: slides of the call, with the ids that they want.
        left_out: paths that the call found and does not take.
        standing: slides that stand in the folder.
        state: state that the folder's ledger adds up to.
    """
    known = _known(standing, state)
    settled = settle_ids(entries, known, fingerprint)
    refused = {r.entry.slide_id: Failure(r.reason, r.message) for r in settled.refused}
    all_entries = [*settled.entries, *(r.entry for r in settled.refused)]
    all_entries.sort(key=lambda entry: entry.slide_id)
    not_taken = settle_left_out(left_out, known, [entry.slide_id for entry in all_entries])
    return Submission(all_entries, refused, not_taken, settled.warnings)


def check_replaced(submission: Submission, standing: Standing, context: RunContext) -> None:
    """Check that a call replaces no result that another model or other settings have made.

    Raises:
        UsageError: if it would replace one and ``--redo`` is not given.
    """
    if context.settings.redo:
        return
    made_otherwise = [
        entry.slide_id
        for entry in submission.entries
        if (summary := standing.summaries.get(entry.slide_id))
        and not is_made_by(summary, context.pixels_key, entry)
    ]
    if made_otherwise:
        n, names = len(made_otherwise), ", ".join(made_otherwise[:_NAMED])
        more = f" and {n - _NAMED} more" if n > _NAMED else ""
        raise UsageError(
            f"{n} of {len(submission.entries)} slides have results in {context.results.path} that "
            "were made with another model, other settings, other regions of interest or another "
            f"version ({names}{more}). "
            "Choose another --out to keep them, or --redo to make them again: each one stands "
            "until its new result is complete"
        )


def note(submission: Submission, ledger: Ledger, run: str) -> None:
    """Record in the ledger which slides a call names, and which paths it does not take.

    Args:
        submission: slides of the call.
        ledger: ledger of the folder of results.
        run: run id of the call.

    Raises:
        StoreError: if the ledger cannot be written.
    """
    for entry in submission.entries:
        ledger.submitted(entry.slide_id, str(entry.path), file_state(entry.path), cells(entry), run)
    for path in submission.left_out:
        ledger.left_out(path.slide_id, path.path, path.reason, run)


def is_made_by(summary: Mapping[str, Any], pixels_key: str, entry: SlideEntry) -> bool:
    """Tell if a result was made with some model, settings, and values of the user for the slide.

    Files of regions or tissue that cannot be read count as those of the result: the slide fails
    when they are read, and its result stands.

    Args:
        summary: summary of the result.
        pixels_key: hash of everything that masks depend on beside their slides.
        entry: slide with the pixel size, the channel order, the region of interest and the tissue
            mask that the user gives, if any.
    """
    made_with = {"pixels_key": pixels_key, **given_values(entry)}
    if not all(summary.get(name) == value for name, value in made_with.items()):
        return False
    try:
        hashes = confinement(entry).hashes()
    except (RoiError, TissueMaskError):
        return True
    return all(summary.get(name) == hashes.get(name) for name in ("roi_given", "tissue_mask_given"))


def cells(slide: SlideEntry | ManifestRow) -> dict[str, str]:
    """Return the cells of a slide's manifest that are not empty, by the name of their column."""
    named = (("patient_id", slide.patient_id), ("group", slide.group), *slide.extra)
    return {name: cell for name, cell in named if cell}


def _known(standing: Standing, state: LedgerState) -> dict[str, KnownSlide]:
    """Slides that have an id in the folder of results."""
    known = {}
    for slide_id in {*state.slides, *standing.summaries}:
        slide, summary = state.slide(slide_id), standing.summaries.get(slide_id, {})
        if slide.failure and slide.failure.reason == ID_TAKEN and not summary:
            continue
        submitted, named = slide.submitted, (slide.submitted, slide.left_out)
        paths = (*(one.path for one in named if one), str(summary.get("path") or ""))
        path = next(filter(None, paths), "")
        content = str(summary.get("fingerprint") or slide.fingerprint)
        if path:
            times = (submitted.size, submitted.mtime_ns) if submitted else (-1, -1)
            known[slide_id] = KnownSlide(Path(path), content, *times)
    return known
