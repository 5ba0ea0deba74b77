"""Files that the viewer serves: its own page, and the folder of results."""

import html
from contextlib import suppress
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from tornado.iostream import StreamClosedError

from noctile.workflows.viewer.access import REPORT_POLICY
from noctile.workflows.viewer.files import (
    Found,
    find_entry,
    find_file,
    list_folder,
    read_part,
    wanted_range,
)
from noctile.workflows.viewer.handlers import Handler, RefusedError

STATIC = Path(str(files("noctile.workflows.viewer") / "static"))
"""Folder of the page, its scripts and its styles."""

PAGE = "viewer.html"
"""Name of the page in `STATIC`."""

_DOWNLOAD = "application/octet-stream"


class FileHandler(Handler):
    """Base of the handlers that serve files: they understand ``Range`` and ``If-None-Match``."""

    async def send(self, found: Found) -> None:
        """Send a file, or the part of it that the request wants.

        Raises:
            RefusedError: if that part lies outside the file, or the file cannot be read.
        """
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Etag", found.etag)
        self.set_header("Cache-Control", "private, no-cache")
        if self.request.headers.get("If-None-Match") == found.etag:
            self.set_status(HTTPStatus.NOT_MODIFIED)
            return
        start, stop = self._part(found)
        self.set_header("Content-Type", found.type)
        self.set_header("Content-Length", str(stop - start))
        if self.request.method != "HEAD":
            await self._send_bytes(found, start, stop)

    def _part(self, found: Found) -> tuple[int, int]:
        """Bytes that are sent, as start and stop.

        Raises:
            RefusedError: if they lie outside the file.
        """
        current = self.request.headers.get("If-Range", found.etag) == found.etag
        header = self.request.headers.get("Range") if current else None
        try:
            part = wanted_range(header, found.size)
        except ValueError as error:
            status, all_bytes = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{found.size}"
            raise RefusedError(status, str(error), Content_Range=all_bytes) from error
        if part is None:
            return 0, found.size
        self.set_status(HTTPStatus.PARTIAL_CONTENT)
        self.set_header("Content-Range", f"bytes {part[0]}-{part[1] - 1}/{found.size}")
        return part

    async def _send_bytes(self, found: Found, start: int, stop: int) -> None:
        """Send bytes of a file; the connection is closed if the file has become shorter."""
        parts = read_part(found.path, start, stop)
        with suppress(StreamClosedError):
            while start < stop and (part := await self.in_thread(lambda: next(parts, b""))):
                start += len(part)
                self.write(part)
                await self.flush()
        if start < stop:
            self.detach().close()


class PageHandler(FileHandler):
    """The viewer's page, and its scripts and styles."""

    async def get(self, _token: str, name: str = PAGE) -> None:
        """Send a file of the package."""
        await self.send(await self.in_thread(lambda: find_file(STATIC, name)))

    head = get


class ReportHandler(FileHandler):
    """``report/``: the report, and everything else in the folder of results that is not hidden.

    Files can only be read. A browser shows pictures, texts and the pages at the top of the folder;
    all others are downloads, because the folder may come from another person.
    """

    async def get(self, _token: str, name: str) -> None:
        """Send a file, or the list of a folder."""
        folder = self.viewer.results.path
        path = await self.in_thread(lambda: find_entry(folder, name))
        self.set_header("Content-Security-Policy", REPORT_POLICY)
        # the sandbox makes the page another origin than its own pictures
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        if path.is_dir():
            await self._send_list(path, name)
            return
        found = await self.in_thread(lambda: find_file(folder, name))
        if found.type == _DOWNLOAD or (path.suffix.lower() == ".html" and "/" in name):
            self.set_header("Content-Disposition", "attachment")
        await self.send(found)

    head = get

    async def _send_list(self, path: Path, name: str) -> None:
        """Send links to what a folder holds."""
        if name and not name.endswith("/"):
            self.redirect(f"{quote(path.name)}/")
            return
        folders, files_ = await self.in_thread(lambda: list_folder(path))
        names = [*(f"{folder}/" for folder in folders), *files_]
        items = "".join(f'<li><a href="./{quote(n)}">{html.escape(n)}</a></li>' for n in names)
        title = html.escape(name.strip("/") or "results")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.write(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            f"<title>{title}</title><h1>{title}</h1><ul>{items}</ul></html>"
        )
