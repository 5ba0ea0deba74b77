"""Times of the viewer's answers on a large slide, as a browser on this machine sees them.

    python -m benchmarks.viewer

The slide has 100,000 x 80,000 px of 0.25 um (`benchmarks.make_slide`), and its label map 50,000 x
40,000 px in 21 classes. The masks are written through `MaskStore`, without a model. ``noctile
view`` runs in a process of its own. Four connections walk over the slide as a user does: the whole
slide, zooms to the finest level at several positions, and pans there. Each view asks for the tiles
of slide, mask and tumor map that a window of 1600 x 1000 px shows, the first time without any
cache. A second folder has 1,000 slides, for the list.
"""

import http.client
import itertools
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks.common import BUILD, machine, slide
from noctile.pipeline.arrays import UInt8
from noctile.pipeline.cohort import SlideRow, cohort_table
from noctile.pipeline.geometry import Extent
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.slides.open import open_slide
from noctile.workflows.jobs.provenance import describe
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.layout import ResultsFolder

WIDTH, HEIGHT, MPP = 100_000, 80_000, 0.25
BLOCK, CHUNK, CLASSES = 4224, 1056, 21
CONNECTIONS, WINDOW = 4, (1600, 1000)
SLIDES = 1000

CLASS_INFOS = tuple(
    ClassInfo(
        code=k, name=f"class_{k}", color=(k, 5 * k, 255 - k), role="tumor" if k == 1 else "tissue"
    )
    for k in range(1, CLASSES + 1)
)


def make_masks(folder: Path, path: Path) -> dict[str, Any]:
    """Write the masks of the slide, and return its description."""
    reader = open_slide(path, slide_id="big")
    frame = reader.info.frame.at(0.5)
    overview = reader.info.frame.at(8.0)
    thumbnail = reader.read(overview.box, 8.0)
    about = describe(reader.info)
    reader.close()
    layout = MaskLayout(frame, BLOCK, CHUNK, CLASS_INFOS)
    store = MaskStore.create(
        folder / "mask.ome.zarr", layout, thumbnail, overview, {"slide": about}
    )
    rng = np.random.default_rng(0)
    for row in range(-(-frame.extent.height // BLOCK)):
        for col in range(-(-frame.extent.width // BLOCK)):
            box = layout.shard_box(row, col)
            labels = draw_labels(rng, box.extent)
            analysed = labels[::8, ::8] > 0
            maps = rng.integers(1, 256, (2, *analysed.shape), np.uint8) * analysed
            store.write(box, labels, *maps)
    build_pyramid(store)
    return about


def draw_labels(rng: np.random.Generator, extent: Extent) -> UInt8:
    """Draw patches of 64 px in all classes, with ragged edges, on a third of the pixels."""
    small = rng.integers(1, CLASSES + 1, (extent.height // 64 + 2, extent.width // 64 + 2))
    small *= (
        rng.random((small.shape[0] // 16 + 1, small.shape[1] // 16 + 1))
        .repeat(16, 0)
        .repeat(16, 1)[: small.shape[0], : small.shape[1]]
        < 1 / 3
    )
    large = small.astype(np.uint8).repeat(64, 0).repeat(64, 1)
    y, x = (np.arange(n) for n in (extent.height, extent.width))
    ragged = rng.integers(0, 8, (2, 4096))
    rows = y[:, None] + ragged[0][x % 4096]
    columns = x[None, :] + ragged[1][y % 4096][:, None]
    labels: UInt8 = large[rows, columns]
    return labels


def make_results(results: ResultsFolder, path: Path) -> None:
    """Write a folder of results with one slide, once."""
    folder = results.slide("big")
    if folder.summary.exists():
        return
    shutil.rmtree(folder.path, ignore_errors=True)
    folder.path.mkdir(parents=True)
    about = make_masks(folder.path, path)
    for file in folder.required:
        if not file.exists() and file != folder.summary:
            file.write_text("{}", encoding="utf-8")
    areas = {info.name: 1.0 for info in CLASS_INFOS}
    write_with_checksums(folder, {"key": "big", **about, "class_area_mm2": areas})


def make_list(results: ResultsFolder) -> None:
    """Write a folder of results whose table has `SLIDES` slides."""
    import pyarrow.parquet as pq

    rng = random.Random(0)
    results.slides.mkdir(parents=True, exist_ok=True)
    summary = {"class_area_mm2": {info.name: 1.0 for info in CLASS_INFOS}, "mpp": [0.25, 0.25]}
    rows = [
        SlideRow(
            f"slide {k:04}",
            Path(f"/archive/{k:04}.svs"),
            "done",
            summary={**summary, "tumor_area_mm2": rng.random(), "qc_flags": ["blurred"]},
        )
        for k in range(SLIDES)
    ]
    table = cohort_table(rows, [info.name for info in CLASS_INFOS])
    pq.write_table(table, results.cohort_parquet, compression="zstd")


def walk() -> Iterator[tuple[float, float, float]]:
    """Yield views of a user: centre (y, x; share of the slide) and level-0 px in a pixel."""
    rng = random.Random(1)
    yield 0.5, 0.5, 64.0
    for _ in range(6):
        y, x = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9)
        for step in range(7):
            yield y, x, 64.0 / 2**step
        for _ in range(6):
            y, x = y + rng.uniform(-0.01, 0.01), x + rng.uniform(-0.01, 0.01)
            yield y, x, 1.0
        yield y, x, 8.0


def tiles_of(about: dict[str, Any], view: tuple[float, float, float]) -> Iterator[tuple[str, str]]:
    """Yield layer and address of the tiles that a view shows."""
    for layer, name, suffix in (
        ("slide", "slide", "jpg"),
        ("mask", "mask", "png"),
        ("tumor", "heat", "png"),
    ):
        size = about[name]
        finest = size["mpp_x"] / MPP
        d = 0
        while d < size["levels"] - 1 and finest * 2 ** (d + 1) <= view[2] * 1.01:
            d += 1
        side = size["tile_px"] * finest * 2**d  # level-0 px in the side of a tile
        spans = [
            range(
                max(0, int((centre * whole - shown * view[2] / 2) // side)),
                min(
                    -(-size[axis] // (size["tile_px"] * 2**d)),
                    int((centre * whole + shown * view[2] / 2) // side) + 1,
                ),
            )
            for centre, whole, shown, axis in (
                (view[0], HEIGHT, WINDOW[1], "height"),
                (view[1], WIDTH, WINDOW[0], "width"),
            )
        ]
        for row, col in itertools.product(*spans):
            yield layer, f"tiles/big/{layer}/{d}/{col}_{row}.{suffix}?v={about['version']}"


class Server:
    """``noctile view`` in a process of its own."""

    def __init__(self, results: Path) -> None:
        program = [sys.executable, "-m", "noctile", "view", str(results), "--no-browser"]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        lines = iter(self.process.stdout or ())
        self.url = urlsplit(next(line.strip() for line in lines if line.startswith("http")))
        self._connections = local()

    def get(self, path: str) -> tuple[float, bytes]:
        """Time (s) and content of an answer; each thread has a connection of its own."""
        connection = getattr(self._connections, "own", None)
        if connection is None:
            connection = http.client.HTTPConnection(str(self.url.hostname), self.url.port)
            self._connections.own = connection
        begin = time.perf_counter()
        connection.request("GET", self.url.path + path)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {content[:200]!r}")
        return time.perf_counter() - begin, content

    def memory_mb(self) -> tuple[float, float]:
        """Memory of the process now, and the most that it had (MB)."""
        peak = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        most = int(peak.split("VmHWM:")[1].split()[0]) / 1000
        return psutil.Process(self.process.pid).memory_info().rss / 1e6, most

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


def with_server(results: Path, measure: Callable[[Server], None]) -> None:
    """Start a server, measure it, and end it."""
    server = Server(results)
    try:
        measure(server)
    finally:
        server.stop()


def measure_walk(server: Server) -> None:
    """Print the times of the tiles of a walk."""
    opened, content = server.get("api/slides/big")
    about = json.loads(content)
    print(f"the slide opens in {opened * 1000:.0f} ms ({about['source']})")
    times: dict[str, list[float]] = {}
    seen: set[str] = set()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for view in walk():
            wanted = [tile for tile in tiles_of(about, view) if tile[1] not in seen]
            seen |= {path for _, path in wanted}
            answers = pool.map(server.get, (path for _, path in wanted))
            for (layer, _), (seconds, _) in zip(wanted, answers, strict=True):
                times.setdefault(layer, []).append(seconds * 1000)
    for layer, ms in (*times.items(), ("all", list(itertools.chain(*times.values())))):
        p95 = statistics.quantiles(ms, n=20)[-1]
        print(
            f"{layer:6} {len(ms):5} tiles: median {statistics.median(ms):6.1f} ms, "
            f"95 % under {p95:6.1f} ms, most {max(ms):6.1f} ms"
        )
    first, content = server.get("api/slides/big/foci")
    again, _ = server.get("api/slides/big/foci")
    print(f"{len(json.loads(content))} foci in {first:.2f} s, again in {again * 1000:.0f} ms")
    now, most = server.memory_mb()
    print(f"memory: {now:.0f} MB, at most {most:.0f} MB")


def measure_list(server: Server) -> None:
    """Print the time of the list."""
    first, content = server.get("api/slides")
    again = statistics.median(server.get("api/slides")[0] for _ in range(9))
    print(
        f"list of {len(json.loads(content)['slides'])} slides: {first * 1000:.0f} ms, "
        f"again {again * 1000:.0f} ms, {len(content) / 1e3:.0f} kB"
    )


def main() -> None:
    """Make what is missing, and measure."""
    path = slide(WIDTH, HEIGHT, MPP)
    big, many = ResultsFolder(BUILD / "viewer"), ResultsFolder(BUILD / "viewer-list")
    make_results(big, path.absolute())
    make_list(many)
    print(machine())
    with_server(big.path, measure_walk)
    with_server(many.path, measure_list)


if __name__ == "__main__":
    main()
