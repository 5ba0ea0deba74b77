"""Time, memory and size of exports of a large label map with 10,000 foci that have holes.

    python -m benchmarks.export [--to geojson] [--width 100000 --height 80000]

The label map is made without a model: wavy tumor nests with a hole in each, in stroma. Its pattern
repeats from block to block, and is shifted so that nests cross the borders of blocks. The stroma is
one focus with as many holes as there are nests.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from benchmarks.big_slide import run_watched
from benchmarks.common import machine
from noctile.pipeline.arrays import UInt8
from noctile.pipeline.export.formats import FORMATS
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo

BLOCK_PX, MPP = 4096, 0.5
NESTS = (5, 4)
"""Rows and columns of nests in a block: 10,000 nests in 500 blocks."""

CLASSES = (
    ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),
    ClassInfo(code=21, name="other", color=(160, 160, 160), role="tissue"),
)
ONE = """
import sys
from pathlib import Path
from benchmarks.export import opened
from noctile.pipeline.export.formats import FORMATS
FORMATS[sys.argv[1]].write(opened(Path(sys.argv[2])), Path(sys.argv[3]), {})
"""


def main() -> None:
    """Make the label map, and print a row for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", default="geojson")
    parser.add_argument("--width", type=int, default=100_000)
    parser.add_argument("--height", type=int, default=80_000)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "big" / "mask.ome.zarr"
        write_labels(mask, Frame(Extent(options.height, options.width), MPP, MPP))
        print("| format | wall (s) | largest process (MB) | file (MB) |\n|---|---|---|---|")
        for name in options.to.split(","):
            path = Path(folder) / f"big{FORMATS[name].suffix}"
            used = run_watched([sys.executable, "-c", ONE, name, str(mask), str(path)])
            size_mb = path.stat().st_size / 1e6
            print(f"| {name} | {used.seconds:.1f} | {used.largest_mb:.0f} | {size_mb:.0f} |")
            if name == "geojson":
                print(area_parity(path, opened(mask)))


def pattern() -> UInt8:
    """Labels of a block, which continue in the next block: uint8 ``[4096, 4096]``."""
    labels = np.full((BLOCK_PX, BLOCK_PX), 21, np.uint8)
    height, width = BLOCK_PX // NESTS[0], BLOCK_PX // NESTS[1]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - height / 2, x - width / 2
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    for k in range(NESTS[0] * NESTS[1]):
        row, col = divmod(k, NESTS[1])
        waves = 1 + 0.1 * np.sin((5 + k) * angle) + 0.03 * np.sin((31 + 3 * k) * angle)
        nest = (radius < 300 * waves) & (radius > 90 * waves)
        part = labels[row * height : (row + 1) * height, col * width : (col + 1) * width]
        part[nest] = 1
        part[radius <= 90 * waves] = 0
    return np.roll(labels, (1000, 700), (0, 1))


def write_labels(mask: Path, frame: Frame) -> None:
    """Write the label map of a slide of one pattern."""
    layout = MaskLayout(frame, BLOCK_PX, 512, CLASSES)
    small = frame.coarser(16)
    about = {"slide": {"mpp": [MPP, MPP], "bounds_px": [0, 0, *_sides(frame)]}}
    thumbnail = np.full((small.extent.height, small.extent.width, 3), 230, np.uint8)
    mask.parent.mkdir(parents=True)
    store = MaskStore.create(mask, layout, thumbnail, small, about)
    labels, heat = pattern(), np.full((BLOCK_PX // 8, BLOCK_PX // 8), 200, np.uint8)
    counts = np.zeros(256, np.int64)
    for row in range(-(-frame.extent.height // BLOCK_PX)):
        for col in range(-(-frame.extent.width // BLOCK_PX)):
            box = layout.shard_box(row, col)
            part = Box.of(box.extent).slices()
            under = Box.of(layout.heat_box(box).extent).slices()
            store.write(box, labels[part], heat[under], heat[under])
            counts += np.bincount(labels[part].ravel(), minlength=256)
    build_pyramid(store)
    areas = {info.name: int(counts[info.code]) * frame.pixel_area_mm2 for info in CLASSES}
    summary: dict[str, Any] = {
        "key": "0" * 16,
        "path": "/big.svs",
        "class_area_mm2": areas,
        "model": "pattern",
    }
    summary |= about["slide"] | {"extent_px": _sides(frame)}
    mask.with_name("summary.json").write_text(json.dumps(summary), encoding="utf-8")


def opened(mask: Path) -> ExportSource:
    """Open the label map."""
    summary = json.loads(mask.with_name("summary.json").read_text(encoding="utf-8"))
    return ExportSource.open(mask, summary)


def area_parity(path: Path, source: ExportSource) -> str:
    """Compare the areas of polygons with those of their pixels; return a line about it."""
    n, holes, invalid = 0, 0, 0
    areas = dict.fromkeys(source.class_area_mm2, 0.0)
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith('{"type": "Feature",'):
                continue
            feature = json.loads(line.rstrip(",\n"))
            polygon = shapely.from_geojson(json.dumps(feature["geometry"]))
            n, holes = n + 1, holes + int(shapely.get_num_interior_rings(polygon))
            invalid += not polygon.is_valid
            areas[feature["properties"]["type"]] += polygon.area * MPP**2 / 1e6
    off = {k: f"{mm2 / source.class_area_mm2[k] - 1:+.4%}" for k, mm2 in areas.items()}
    return f"{n} features, {holes} holes, {invalid} not valid; area - raster: {off}"


def _sides(frame: Frame) -> list[int]:
    return [frame.extent.height, frame.extent.width]


if __name__ == "__main__":
    main()
