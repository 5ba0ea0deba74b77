"""Slides of a cohort that need a look, by a rule that the page states; remedies of failures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noctile.pipeline.flags import flag_meaning

Row = Mapping[str, Any]

CONFIDENCE, SEAMS, FAR = 0.6, 0.1, 3.5
"""Confidence below which, seam disagreement above which, and distance from the cohort's median
above which a slide needs a look. The distance is in robust standard deviations, 1.4826 x the median
absolute deviation (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""

FEWEST = 10
"""Fewest slides that make a cohort with a median worth comparing to."""

RULE = (
    "A slide is in this queue if it has a quality flag, a mean confidence below "
    f"{CONFIDENCE:g}, a seam disagreement above {SEAMS:g}, or a tumor fraction that is more than "
    f"{FAR:g} robust standard deviations (1.4826 x median absolute deviation) from the median of "
    f"this folder (with at least {FEWEST} slides). A slide with more of these reasons comes first, "
    "then the one with less confidence."
)

REVIEWED = ("accepted", "rejected")
"""Statuses of a review that end the need for a look."""

_SKIPPED = "The path was left out: see 'What is left out' in the documentation of a run."

_REMEDIES = {
    "missing": "Check the path, or copy the file there. The same command tries it again.",
    "unopenable": "Read the message. An MRXS file needs the folder of the same name beside it. "
    "Convert other formats to tiled TIFF.",
    "unreadable": "Copy the file again from where it was scanned or archived. After a repair of "
    "the disk: --retry-failed.",
    "changed_while_read": "Wait until the copy or the scan is complete, then use the same command.",
    "unreadable_tissue": "Copy the file again, then --retry-failed.",
    "mpp_missing": "Pass the pixel size: --mpp 0.25, or the column mpp of a manifest.",
    "mpp_implausible": "Pass the true pixel size: --mpp, or the column mpp of a manifest.",
    "roi_invalid": "Correct the file of the region, or its path in the manifest, then use the same "
    "command.",
    "tissue_mask_invalid": "Correct the mask, or its path in the manifest, then use the same "
    "command.",
    "timeout": "Allow more with --slide-timeout, or look at the slide.",
    "out_of_memory": "Allow more --max-memory, use fewer --workers, or a smaller block_px.",
    "worker_died": "Read its report in the folder failures; leave the slide out.",
    "store": "The message names the file: delete it or its folder, then use the same command.",
    "internal_error": "A defect of Noctile: please report it with the traceback in the folder "
    "failures.",
    "id_taken": "Give the slide another slide_id, or use another --out.",
    "stopped": "The same command continues.",
    "waiting": "Wait, or use the same command.",
    "broken_link": _SKIPPED,
    "circular_link": _SKIPPED,
    "no_access": _SKIPPED,
    "bad_name": _SKIPPED,
    "no_file": _SKIPPED,
}
"""Remedy of each reason why a slide is not done; docs/what-happens.md has the same."""


def remedy(reason: str | None) -> str:
    """Sentence that says what to do about a slide that is not done."""
    return _REMEDIES.get(reason or "", "Read the message, and the report in the folder failures.")


@dataclass(frozen=True, slots=True)
class NeedsLook:
    """Slide that needs a look.

    Attributes:
        row: row of the slide.
        reasons: one phrase for each reason.
    """

    row: Row
    reasons: tuple[str, ...]


def queue_of(rows: Iterable[Row]) -> list[NeedsLook]:
    """Slides that need a look, the most urgent first, by `RULE`."""
    done = [row for row in rows if row["status"] == "done"]
    centre, spread = _centre([row.get("tumor_fraction_of_tissue") for row in done])
    open_ = [row for row in done if not _is_reviewed(row)]
    found = [NeedsLook(row, tuple(_reasons(row, centre, spread))) for row in open_]
    found = [item for item in found if item.reasons]
    return sorted(found, key=lambda item: (-len(item.reasons), _confidence(item), _id(item)))


def _is_reviewed(row: Row) -> bool:
    """Tell if reviewers have accepted or rejected the result that stands, not an earlier one."""
    current = row.get("reviewed_result") != "earlier"
    return current and row.get("review_status") in REVIEWED


def _reasons(row: Row, centre: float, spread: float) -> Iterable[str]:
    for flag in row.get("qc_flags") or ():
        meaning = flag_meaning(flag)
        yield f"{flag}: {meaning}" if meaning else str(flag)
    confidence, seams = row.get("mean_confidence"), row.get("seam_disagreement")
    if confidence is not None and confidence < CONFIDENCE:
        yield f"mean confidence {confidence:.3f}"
    if seams is not None and seams > SEAMS:
        yield f"seam disagreement {seams:.3f}"
    share = row.get("tumor_fraction_of_tissue")
    if share is not None and spread > 0 and abs(share - centre) > FAR * spread:
        yield f"tumor fraction {share:.3f}, median of the folder {centre:.3f}"


def _centre(shares: Sequence[float | None]) -> tuple[float, float]:
    """Median and robust standard deviation; a deviation of 0 for too few slides."""
    known = np.array([share for share in shares if share is not None], np.float64)
    if len(known) < FEWEST:
        return 0.0, 0.0
    centre = float(np.median(known))
    return centre, 1.4826 * float(np.median(np.abs(known - centre)))


def _confidence(item: NeedsLook) -> float:
    confidence = item.row.get("mean_confidence")
    return 1.0 if confidence is None else float(confidence)


def _id(item: NeedsLook) -> str:
    return str(item.row["slide_id"])
