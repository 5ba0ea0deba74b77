"""Answers of the viewer to requests for slides: lists, descriptions and tiles.

Every path begins with the token of the server. A request that cannot be answered gets JSON with the
reason under ``error``, and never a traceback.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, TypeVar

from tornado.web import HTTPError, RequestHandler

from noctile.pipeline.errors import NoctileError
from noctile.workflows.commands.opened import Results
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.viewer.access import HEADERS, Access
from noctile.workflows.viewer.details import focus_list, slide_document
from noctile.workflows.viewer.listing import Listing, plain_row
from noctile.workflows.viewer.reviews import review_document, status_of_all
from noctile.workflows.viewer.tiles import STYLES, Tile, draw, parse_shown
from noctile.workflows.viewer.views import SlideView, Views

_Value = TypeVar("_Value")

_FOREVER = "private, max-age=31536000, immutable"
"""Lifetime of a tile whose address names the version of the slide."""

_ASK_AGAIN = "private, no-cache"
"""Lifetime of a tile whose address does not: the browser asks if it has changed."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Everything that the handlers share.

    Attributes:
        results: folder of results.
        access: rules by which requests are answered.
        reviewer: name under which reviews are saved.
        listing: rows of all slides.
        views: slides that are open.
        pool: threads that read and draw.
        reviews: reviews of the slides; None if none are read or saved.
    """

    results: Results
    access: Access
    reviewer: str
    listing: Listing
    views: Views
    pool: Executor
    reviews: Reviews | None


class RefusedError(HTTPError):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        text: reason, for the user.
        headers: headers of the answer.
    """

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(status)
        self.text, self.headers = text, headers


class Handler(RequestHandler):
    """Base of all handlers: access, headers, errors and work in threads."""

    def initialize(self, viewer: Viewer) -> None:
        """Keep what the handlers share."""
        self.viewer, self._gone = viewer, False

    def set_default_headers(self) -> None:
        """Set the headers of every answer; the name of the server software is left out."""
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuse requests from elsewhere.

        Raises:
            RefusedError: if the host, the token or the origin is wrong.
        """
        writes = self.request.method not in ("GET", "HEAD")
        problem = self.viewer.access.problem(self.request.path, self.request.headers, writes=writes)
        if problem:
            raise RefusedError(HTTPStatus.FORBIDDEN, problem)

    def on_connection_close(self) -> None:
        """Note that the browser does not wait any more: tiles out of sight are not drawn."""
        self._gone = True

    async def in_thread(self, work: Callable[[], _Value]) -> _Value:
        """Do work in a thread of the pool.

        Raises:
            RefusedError: if the work raises a `NoctileError` or an OSError, with its message; or if
                the browser has gone before the work began.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.viewer.pool, self._unless_gone, work)
        except NoctileError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
        except OSError as error:
            text = f"a file cannot be read: {error.strerror or error}"
            raise RefusedError(HTTPStatus.NOT_FOUND, text) from error

    def _unless_gone(self, work: Callable[[], _Value]) -> _Value:
        if self._gone:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the browser has closed the connection")
        return work()

    def write_json(self, values: Any) -> None:
        """Write plain values as the answer."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(json.dumps(values, separators=(",", ":"), allow_nan=False))

    def write_error(self, status_code: int, **about: Any) -> None:
        """Write the reason of an error as JSON.

        Args:
            status_code: HTTP status.
            about: holds ``exc_info``, the error.
        """
        error = about["exc_info"][1] if about.get("exc_info") else None
        text = HTTPStatus(status_code).phrase
        if isinstance(error, RefusedError):
            text = error.text
            for name, value in error.headers.items():
                self.set_header(name.replace("_", "-"), value)
        self.write_json({"error": text})
        self.finish()

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Print errors of the program; requests that were refused are none."""
        if not isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)


class NotFoundHandler(Handler):
    """Answer to every path that no other handler has."""

    def prepare(self) -> None:
        """Refuse the request.

        Raises:
            RefusedError: always.
        """
        super().prepare()
        raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page")


class IconHandler(Handler):
    """``/favicon.ico``: browsers ask for it without the token, and report an error as a fault."""

    def prepare(self) -> None:
        """Refuse requests to other hosts.

        Raises:
            RefusedError: if the host is wrong.
        """
        if problem := self.viewer.access.host_problem(self.request.headers):
            raise RefusedError(HTTPStatus.FORBIDDEN, problem)

    def get(self) -> None:
        """Answer that there is no icon."""
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")  # pages of the report
        self.set_status(HTTPStatus.NO_CONTENT)


class SlidesHandler(Handler):
    """``api/slides``: a row for each slide."""

    async def get(self, _token: str) -> None:
        """Answer with the name of the folder, the reviewer, and the rows sorted by id."""
        viewer = self.viewer
        slides = await self.in_thread(self._rows)
        name = viewer.results.path.resolve().name
        self.write_json({"results": name, "reviewer": viewer.reviewer, "slides": slides})

    def _rows(self) -> list[dict[str, Any]]:
        rows, reviews = self.viewer.listing.rows(), self.viewer.reviews
        shown = {slide_id: plain_row(row) for slide_id, row in rows.items()}
        if reviews:  # the table may be older than the reviews
            statuses = status_of_all(reviews.all())
            for slide_id, row in shown.items():
                row["review_status"] = statuses.get(slide_id, "")
        return list(shown.values())

    head = get


class SlideHandler(Handler):
    """``api/slides/<id>``: description of a slide."""

    async def get(self, _token: str, slide_id: str) -> None:
        """Answer with the description."""
        self.write_json(await self.in_thread(lambda: self._document(slide_id)))

    head = get

    def _document(self, slide_id: str) -> dict[str, Any]:
        document, reviews = slide_document(self.viewer.views.get(slide_id)), self.viewer.reviews
        return document | {"review": review_document(reviews.of(slide_id)) if reviews else None}


class FociHandler(Handler):
    """``api/slides/<id>/foci``: tumor foci of a slide."""

    async def get(self, _token: str, slide_id: str) -> None:
        """Answer with the foci, the largest first."""
        self.write_json(await self.in_thread(lambda: focus_list(self.viewer.views.get(slide_id))))

    head = get


class TileHandler(Handler):
    """``tiles/<id>/<layer>/<d>/<col>_<row>``: a tile of a layer.

    ``v`` in the address is the version of the slide's description. With it, a browser keeps the
    tile. A tile of another version is gone: the page must read the description again.
    """

    async def get(self, _token: str, slide_id: str, layer: str, d: str, col: str, row: str) -> None:
        """Answer with the picture, or that the browser's own copy is still right."""
        tile = self._wanted(layer, int(d), int(row), int(col))
        version, content = await self.in_thread(lambda: self._draw(slide_id, tile))
        named = self.get_query_argument("v", None)
        self.set_header("Etag", f'"{version}"')
        self.set_header("Cache-Control", _FOREVER if named == version else _ASK_AGAIN)
        if content is None:
            self.set_status(HTTPStatus.NOT_MODIFIED)
            return
        self.set_header("Content-Type", tile.type)
        self.write(content)

    head = get

    def _wanted(self, layer: str, d: int, row: int, col: int) -> Tile:
        """Tile that the request wants.

        Raises:
            RefusedError: if the request is wrong.
        """
        style = self.get_query_argument("style", STYLES[0])
        if style not in STYLES:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"style must be {' or '.join(STYLES)}")
        try:
            shown = parse_shown(self.get_query_argument("show", None))
        except ValueError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        return Tile(layer, d, row, col, shown, style)

    def _draw(self, slide_id: str, tile: Tile) -> tuple[str, bytes | None]:
        """Draw a tile, unless the browser has it.

        Returns:
            version of the slide, and the picture or None.

        Raises:
            RefusedError: if the address names another version.
        """
        view = self.viewer.views.get(slide_id)
        if self.get_query_argument("v", view.version) != view.version:
            text = f"{slide_id} or its file has changed; load the page again"
            raise RefusedError(HTTPStatus.GONE, text)
        return view.version, None if self._has(view) else draw(view, tile)

    def _has(self, view: SlideView) -> bool:
        return self.request.headers.get("If-None-Match", "") == f'"{view.version}"'
