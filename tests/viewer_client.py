"""A viewer in a thread of the test's process, results for it, and requests to it."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from roi_files import box, feature, write_manifest, write_mask, write_roi
from standins import small_slide, threshold_model

from noctile.pipeline.errors import ReviewConflictError
from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.opened import open_results
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings
from noctile.workflows.viewer.access import HOST, Access, new_token
from noctile.workflows.viewer.server import application, http_server, listen


def make_results(folder: Path) -> Path:
    """Make ``slides`` and ``results``: a slide with tissue, and a file that is no slide."""
    (folder / "slides").mkdir()
    small_slide(folder / "slides" / "a.tif", seed=0, height=1300, width=1500)
    (folder / "slides" / "broken.tif").write_bytes(b"II*\0 this is no slide")
    model = threshold_model(folder / "model")
    settings = RunSettings(model=str(model), engine="serial", block_px=480, device="cpu")
    entries = find_slides([folder / "slides"], None, None).slides
    run_slides(entries, settings, folder / "results", lambda progress, say: None)
    return folder


TWO = "<b>two</b>, a name that is longer than the picture shows"
"""Name of a region, which is no HTML."""

REGIONS = (
    feature(box(100, 120, 700, 900), box(300, 400, 200, 250), name="bed"),
    {
        "type": "Feature",
        "properties": {"objectType": "annotation", "name": TWO},
        "geometry": {
            "type": "MultiPolygon",
            "coordinates": [
                [[[900, 200], [1100, 200], [1000, 500], [900, 200]]],
                [[[900, 600], [1300, 600], [1300, 900], [900, 900], [900, 600]]],
            ],
        },
    },
    feature(box(150, 800, 200, 100), label="Ignore*"),
)
"""A region with a hole, one of two polygons, and what is cut out (x, y; px of level 0)."""

TISSUE_BOX = (400, 300, 600, 800)
"""Tissue of a given mask: x, y, width and height (px of level 0)."""


def make_confined_results(folder: Path) -> Path:
    """Make ``results``: slide a confined to `REGIONS`, b to the tissue of a mask, c to nothing."""
    for seed, name in ((0, "a"), (1, "b"), (2, "c")):
        small_slide(folder / f"{name}.tif", seed=seed, height=1300, width=1500)
    write_roi(folder / "a.geojson", *REGIONS)
    x, y, width, height = TISSUE_BOX
    mask = np.zeros((1300, 1500), np.bool_)
    mask[y : y + height, x : x + width] = True
    write_mask(folder / "b.png", mask)
    given = {"a": ("a.geojson", ""), "b": ("", "b.png"), "c": ("", "")}
    rows = [
        {"path": f"{name}.tif", "roi": roi, "tissue_mask": mask}
        for name, (roi, mask) in given.items()
    ]
    model = threshold_model(folder / "model")
    settings = RunSettings(model=str(model), engine="serial", block_px=480, device="cpu")
    entries = find_slides([], write_manifest(folder / "slides.csv", *rows), None).slides
    run_slides(entries, settings, folder / "results", lambda *_: None)
    return folder / "results"


@dataclass
class Row:
    """Review of a slide by one reviewer."""

    slide_id: str
    reviewer: str
    status: str
    note: str
    time: str = "2026-11-29T06:00:00Z"


@dataclass
class Review:
    """Reviews of a slide by all reviewers."""

    version: str
    reviews: list[Row]
    regions: dict[str, Any]


class Book:
    """Reviews in memory; each change makes a new version, and an old version is a conflict."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.features: list[Any] = []
        self.count = 0

    def all(self) -> list[Row]:
        return self.rows

    def of(self, slide_id: str) -> Review:
        rows = [row for row in self.rows if row.slide_id == slide_id]
        collection = {"type": "FeatureCollection", "features": self.features}
        return Review(str(self.count), rows, collection)

    def save(self, slide_id: str, reviewer: str, status: str, note: str, version: str) -> Review:
        self._change(slide_id, version)
        kept = [row for row in self.rows if (row.slide_id, row.reviewer) != (slide_id, reviewer)]
        self.rows = [*kept, Row(slide_id, reviewer, status, note)]
        return self.of(slide_id)

    def save_regions(self, slide_id: str, _: str, features: list[Any], version: str) -> Review:
        self._change(slide_id, version)
        self.features = features
        return self.of(slide_id)

    def _change(self, slide_id: str, version: str) -> None:
        if version != str(self.count):
            raise ReviewConflictError("the review has changed", self.of(slide_id))
        self.count += 1


@dataclass
class Answer:
    """Answer of the viewer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Program that sends requests to a viewer."""

    access: Access

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request to a path that is not changed before; ``_`` in headers stands for -."""
        connection = http.client.HTTPConnection(HOST, self.access.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(
                method, path, skip_host="Host" in named, skip_accept_encoding=True
            )
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in named.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """Get a path behind the token."""
        return self.send("GET", f"/{self.access.token}/{path}", **headers)

    def put(self, path: str, values: Any, **headers: str) -> Answer:
        """Put JSON to a path behind the token."""
        body = json.dumps(values).encode()
        return self.send("PUT", f"/{self.access.token}/{path}", body, **headers)


@contextmanager
def serving(
    results: Path, reviewer: str = "ada", reviews: Any = None, make: Any = application
) -> Iterator[Client]:
    """Run a viewer in a thread of this process; ``make`` makes its application."""
    opened = listen(0)
    access = Access(new_token(), opened.getsockname()[1])
    loop, begun, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        with ThreadPoolExecutor(2) as pool:
            app = make(open_results(results), access, reviewer, pool, reviews)
            server = http_server(app)
            server.add_socket(opened)
            begun.set()
            await stop.wait()
            server.stop()
            await server.close_all_connections()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    begun.wait(10)
    try:
        yield Client(access)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
