"""The viewer's server: it listens on this machine only, until it is interrupted."""

import asyncio
import errno
import getpass
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_server, socket
from urllib.parse import quote

from tornado.httpserver import HTTPServer
from tornado.web import Application

from noctile.pipeline.errors import UsageError
from noctile.pipeline.untrusted import printable
from noctile.workflows.commands.opened import Results, open_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.viewer import handlers
from noctile.workflows.viewer.access import HOST, Access, new_token
from noctile.workflows.viewer.file_handlers import PageHandler, ReportHandler
from noctile.workflows.viewer.handlers import Viewer
from noctile.workflows.viewer.listing import Listing
from noctile.workflows.viewer.review_handlers import RegionsHandler, ReviewHandler
from noctile.workflows.viewer.table_writer import TableWriter
from noctile.workflows.viewer.views import Views

MAX_BODY_BYTES = 2**23
"""Largest body of a request (B): a review with thousands of regions has less."""

_MAX_HEADER_BYTES, _BODY_TIMEOUT_S = 2**14, 30.0

_MAX_THREADS = 8
"""Most threads that read and draw. A browser asks for 6 tiles at once."""

_NAME_CHARS = 100
"""Longest name of a reviewer."""


def serve(
    path: Path, port: int, reviewer: str | None, slide_id: str | None, ready: Callable[[str], None]
) -> None:
    """Serve the viewer of a folder of results, until it is interrupted.

    Args:
        path: folder of results.
        port: port to listen on; 0 for any free one.
        reviewer: name under which reviews are saved; None for the user's name.
        slide_id: slide that the page shows first; None for the first of the list.
        ready: called with the address of the page, once the server listens.

    Raises:
        UsageError: if the folder holds no results, knows no such slide, the name cannot be used, or
            the port is taken.
        KeyboardInterrupt: when the user presses Ctrl-C.
    """
    results, name = open_results(path), reviewer_name(reviewer)
    if slide_id is not None and slide_id not in Listing(results).rows():
        known = printable(slide_id)
        raise UsageError(f"{path} knows no slide {known}; slides.csv there lists its slides")
    opened = listen(port)
    shown = f"#slide={quote(slide_id)}" if slide_id else ""
    tables = TableWriter(ResultsFolder(results.path))
    reviews = Reviews(ResultsFolder(results.path), saved=tables.changed)
    try:
        answer_requests(
            opened,
            lambda access, pool: application(results, access, name, pool, reviews),
            lambda url: ready(url + shown),
        )
    finally:
        tables.close()


def reviewer_name(name: str | None, option: str = "--reviewer") -> str:
    """Return the name under which a person saves; None for the user's name.

    Args:
        name: name that the user gave.
        option: option with which it is given.

    Raises:
        UsageError: if it cannot be used.
    """
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):  # a user without a name, in a container
            name = "reviewer"
    if not name.strip() or not name.isprintable() or len(name) > _NAME_CHARS:
        raise UsageError(
            f"{option} {printable(name)!r} must be 1 to {_NAME_CHARS} printable characters"
        )
    return name.strip()


def listen(port: int) -> socket:
    """Open the port, for this machine only.

    Args:
        port: number of the port; 0 for any free one.

    Raises:
        UsageError: if it is taken, or this user may not open it.
    """
    try:
        opened = create_server((HOST, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} is taken by another program; name another --port, or leave it out"
            ) from error
        raise UsageError(
            f"port {port} cannot be opened: {error.strerror or error}; name another --port"
        ) from error
    opened.setblocking(False)
    return opened


def answer_requests(
    opened: socket,
    make: Callable[[Access, ThreadPoolExecutor], Application],
    ready: Callable[[str], None],
) -> None:
    """Answer requests until the process is interrupted; then close the port.

    Args:
        opened: port that `listen` has opened.
        make: makes the application.
        ready: called with the address of the page, once the server listens.

    Raises:
        KeyboardInterrupt: when the user presses Ctrl-C.
    """
    asyncio.run(_serve(opened, make, ready))


async def _serve(
    opened: socket,
    make: Callable[[Access, ThreadPoolExecutor], Application],
    ready: Callable[[str], None],
) -> None:
    access = Access(new_token(), opened.getsockname()[1])
    threads = min(_MAX_THREADS, (os.cpu_count() or 1) + 2)
    pool = ThreadPoolExecutor(threads, "viewer")
    server = http_server(make(access, pool))
    server.add_socket(opened)
    try:
        ready(access.url)
        await asyncio.Event().wait()
    finally:
        server.stop()
        pool.shutdown(wait=False, cancel_futures=True)


def http_server(app: Application) -> HTTPServer:
    """Make the server of an application, with limits on what a request may send."""
    return HTTPServer(
        app,
        max_body_size=MAX_BODY_BYTES,
        max_header_size=_MAX_HEADER_BYTES,
        body_timeout=_BODY_TIMEOUT_S,
    )


def application(
    results: Results,
    access: Access,
    reviewer: str,
    pool: ThreadPoolExecutor,
    reviews: Reviews | None = None,
) -> Application:
    """Make the application: which handler answers which path.

    Args:
        results: folder of results.
        access: rules by which requests are answered.
        reviewer: name under which reviews are saved.
        pool: threads that read and draw.
        reviews: reviews of the slides; None if none are read or saved.
    """
    listing = Listing(results)
    viewer = Viewer(results, access, reviewer, listing, Views(results, listing), pool, reviews)
    shared, number = {"viewer": viewer}, "([0-9]{1,9})"
    slide, pair = r"/([^/]+)/api/slides/([^/]+)", f"{number}_{number}"
    tile = rf"/([^/]+)/tiles/([^/]+)/%s/{number}/{pair}\.%s"
    return Application(
        [
            (r"/favicon\.ico", handlers.IconHandler, shared),
            (r"/([^/]+)/", PageHandler, shared),
            (r"/([^/]+)/static/(.*)", PageHandler, shared),
            (r"/([^/]+)/report/(.*)", ReportHandler, shared),
            (r"/([^/]+)/api/slides", handlers.SlidesHandler, shared),
            (slide, handlers.SlideHandler, shared),
            (rf"{slide}/foci", handlers.FociHandler, shared),
            (rf"{slide}/review", ReviewHandler, shared),
            (rf"{slide}/regions", RegionsHandler, shared),
            (tile % ("(slide)", "jpg"), handlers.TileHandler, shared),
            (tile % ("(mask|tumor|confidence)", "png"), handlers.TileHandler, shared),
        ],
        default_handler_class=handlers.NotFoundHandler,
        default_handler_args=shared,
        log_function=lambda _: None,
    )
