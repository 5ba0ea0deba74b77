"""Reviews that the viewer's page saves."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from noctile.pipeline.errors import NoctileError, ReviewConflictError
from noctile.workflows.results.review_rows import SlideReview
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.viewer.handlers import Handler, RefusedError
from noctile.workflows.viewer.reviews import (
    parse_regions,
    parse_review,
    review_document,
)

REVIEW_BYTES = 2**17
"""Largest body of a request with status and note (B)."""


class _SavingHandler(Handler):
    """Base of the handlers that save a part of a review."""

    async def save(self, slide_id: str, work: Callable[[Reviews], SlideReview]) -> None:
        """Save a part of the review of a slide that is done, and answer with the whole."""
        status, document = await self.in_thread(lambda: self._save(slide_id, work))
        self.set_status(status)
        self.write_json(document)

    def _save(
        self, slide_id: str, work: Callable[[Reviews], SlideReview]
    ) -> tuple[int, dict[str, Any]]:
        """Save, and return status and answer.

        Raises:
            RefusedError: if the review cannot be saved.
            SlideNotDoneError: if the slide has no result.
        """
        viewer = self.viewer
        if slide_id not in viewer.results:
            raise viewer.listing.not_done(slide_id)
        if viewer.reviews is None:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "this viewer saves no reviews")
        try:
            return HTTPStatus.OK, review_document(work(viewer.reviews))
        except ReviewConflictError as error:
            return HTTPStatus.CONFLICT, review_document(error.current, conflict=True)
        except NoctileError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error


class ReviewHandler(_SavingHandler):
    """``api/slides/<id>/review``: status and note of the reviewer."""

    async def put(self, _token: str, slide_id: str) -> None:
        """Save status and note.

        Raises:
            RefusedError: if the body is too large.
        """
        body, reviewer = self.request.body, self.viewer.reviewer
        if len(body) > REVIEW_BYTES:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"a review has at most {REVIEW_BYTES} bytes")
        await self.save(slide_id, lambda book: book.save(slide_id, reviewer, *parse_review(body)))


class RegionsHandler(_SavingHandler):
    """``api/slides/<id>/regions``: regions that the reviewer leaves out."""

    async def put(self, _token: str, slide_id: str) -> None:
        """Save the regions."""
        body, reviewer = self.request.body, self.viewer.reviewer
        await self.save(
            slide_id, lambda book: book.save_regions(slide_id, reviewer, *parse_regions(body))
        )
