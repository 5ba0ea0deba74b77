"""The viewer's server for an audit: it answers with points and pixels, and with no prediction.

It has none of the paths of the other viewer: no masks, no figures, no files of the folder.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tornado.web import Application

from noctile.pipeline.errors import NoctileError
from noctile.workflows.commands.opened import Results, open_results
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.viewer import handlers
from noctile.workflows.viewer.access import Access
from noctile.workflows.viewer.audit import NoPointError, ReaderAudit, parse_answer
from noctile.workflows.viewer.file_handlers import PageHandler
from noctile.workflows.viewer.handlers import Handler, RefusedError, TileHandler, Viewer
from noctile.workflows.viewer.listing import Listing
from noctile.workflows.viewer.server import answer_requests, listen
from noctile.workflows.viewer.tiles import Tile
from noctile.workflows.viewer.views import Views

AUDIT_PAGE = "audit.html"
"""Name of the page among the static files."""

ANSWER_BYTES = 2**12
"""Largest body of a request with an answer (B)."""


@dataclass(frozen=True, slots=True)
class AuditViewer(Viewer):
    """Everything that the handlers of an audit share.

    Attributes:
        audit: points as the reader sees them.
    """

    audit: ReaderAudit


class _AuditHandler(Handler):
    """Base of the handlers of an audit."""

    viewer: AuditViewer


class AuditPageHandler(PageHandler):
    """The page of an audit."""

    async def get(self, _token: str, name: str = AUDIT_PAGE) -> None:
        """Send the page."""
        await super().get(_token, name)

    head = get


class AuditHandler(_AuditHandler):
    """``api/audit``: answers that can be given, points in order, and the reader's answers."""

    async def get(self, _token: str) -> None:
        """Answer with the audit."""
        self.write_json(await self.in_thread(self.viewer.audit.document))

    head = get


class PointHandler(_AuditHandler):
    """``api/points/<id>``: position of a point, and the pixels around it."""

    async def get(self, _token: str, point_id: str) -> None:
        """Answer with the point."""
        self.write_json(await self.in_thread(lambda: self.viewer.audit.point_document(point_id)))

    head = get


class AnswerHandler(_AuditHandler):
    """``api/points/<id>/answer``: answer of the reader."""

    async def put(self, _token: str, point_id: str) -> None:
        """Save the answer.

        Raises:
            RefusedError: if the body is too large.
        """
        body = self.request.body
        if len(body) > ANSWER_BYTES:
            raise RefusedError(
                HTTPStatus.BAD_REQUEST, f"an answer has at most {ANSWER_BYTES} bytes"
            )
        await self.in_thread(lambda: self._save(point_id, body))
        self.write_json({"saved": True})

    def _save(self, point_id: str, body: bytes) -> None:
        """Save the answer.

        Raises:
            RefusedError: if it cannot be saved.
        """
        try:
            self.viewer.audit.save(point_id, parse_answer(body))
        except NoPointError:
            raise
        except NoctileError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error


class PointTileHandler(TileHandler):
    """``tiles/<point id>/slide/<d>/<col>_<row>``: pixels of a point's slide, without its name."""

    viewer: AuditViewer

    def _draw(self, slide_id: str, tile: Tile) -> tuple[str, bytes | None]:
        return super()._draw(self.viewer.audit.view(slide_id).slide_id, tile)


def serve_audit(
    path: Path, audits: Audits, port: int, reader: str, ready: Callable[[str], None]
) -> None:
    """Show the points of an audit to a reader, until the process is interrupted.

    Args:
        path: folder of results.
        audits: its audit.
        port: port to listen on; 0 for any free one.
        reader: name under which answers are saved.
        ready: called with the address of the page, once the server listens.

    Raises:
        UsageError: if the port is taken.
        StoreError: if a file of the audit is damaged.
        KeyboardInterrupt: when the user presses Ctrl-C.
    """
    results = open_results(path)
    answer_requests(
        listen(port),
        lambda access, pool: audit_application(results, access, reader, pool, audits),
        ready,
    )


def audit_application(
    results: Results, access: Access, reader: str, pool: Executor, audits: Audits | None = None
) -> Application:
    """Make the application of an audit: which handler answers which path.

    Args:
        results: folder of results.
        access: rules by which requests are answered.
        reader: name under which answers are saved.
        pool: threads that read and draw.
        audits: the audit; that of the folder by default.

    Raises:
        StoreError: if a file of the audit is damaged.
    """
    listing, number = Listing(results), "([0-9]{1,9})"
    views = Views(results, listing)
    audit = ReaderAudit(audits or Audits(ResultsFolder(results.path)), reader, views)
    viewer = AuditViewer(results, access, reader, listing, views, pool, None, audit)
    shared, point = {"viewer": viewer}, r"/([^/]+)/api/points/([^/]+)"
    tile = rf"/([^/]+)/tiles/([^/]+)/(slide)/{number}/{number}_{number}\.jpg"
    return Application(
        [
            (r"/favicon\.ico", handlers.IconHandler, shared),
            (r"/([^/]+)/", AuditPageHandler, shared),
            (r"/([^/]+)/static/(.*)", PageHandler, shared),
            (r"/([^/]+)/api/audit", AuditHandler, shared),
            (point, PointHandler, shared),
            (rf"{point}/answer", AnswerHandler, shared),
            (tile, PointTileHandler, shared),
        ],
        default_handler_class=handlers.NotFoundHandler,
        default_handler_args=shared,
        log_function=lambda _: None,
    )
