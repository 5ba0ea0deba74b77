"""Reviews of one folder of results that come to another one, with its slides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from noctile.pipeline.errors import StoreError
from noctile.pipeline.untrusted import printable
from noctile.workflows.commands.merge_source import Source
from noctile.workflows.results.review_rows import SlideReview
from noctile.workflows.results.reviews import Reviews


@dataclass(frozen=True, slots=True)
class TakenReviews:
    """Lines about reviews that did not come along.

    Attributes:
        damaged: line for each file of the folder that cannot be read or written.
        notes: line for each review that differs from the one that stands.
    """

    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def take_reviews(
    source: Source,
    target: Reviews,
    final_ids: Mapping[str, str],
    result_of: Callable[[str], str] = lambda _: "",
) -> TakenReviews:
    """Add the reviews of some slides of a folder to those of another folder.

    Args:
        source: folder that the reviews come from; it is only read.
        target: reviews that they are added to; what stands there stays.
        final_ids: ids of the slides there, by their ids in the source.
        result_of: gives, by the id in the source, the reviewed result of a row that names none.
    """
    told, there = TakenReviews(), Reviews(source.results, keeps_areas=False)
    found = list[tuple[str, SlideReview]]()
    try:
        reviewed = there.reviewed()
    except StoreError as error:
        told.damaged.append(f"reviews of {source.name} are left out: {error}")
        return told
    for slide_id in sorted(reviewed.keys() & final_ids.keys()):
        rows = tuple(
            row if row.result else replace(row, result=result_of(slide_id))
            for row in reviewed[slide_id]
        )
        regions = SlideReview().regions
        try:
            regions = there.regions(slide_id)
        except StoreError as error:
            what = f"regions in the review of {slide_id} of {source.name} are left out"
            told.damaged.append(f"{what}: {error}")
        found.append((final_ids[slide_id], SlideReview(rows, regions)))
    try:
        left_out = target.take(found)
    except StoreError as error:
        told.damaged.append(f"reviews of {source.name} are left out: {error}")
        return told
    for row in left_out:
        told.notes.append(
            f"{row.slide_id}: the review by {printable(row.reviewer)} stays; that in "
            f"{source.name}, {row.status or 'without a status'}, is in review/history.jsonl"
        )
    return told
