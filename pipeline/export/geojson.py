"""GeoJSON of a slide's label map, as QuPath imports it: one feature for each connected focus.

Foci are found strip by strip (`noctile.pipeline.export.trace`), and written as they end. So memory
holds a strip of the label map and the outlines of the foci in it, not the slide. Features wait in a
temporary file until their number is known, on which the kind of objects depends.
"""

import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import shapely

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.large_focus import LARGE_CORNERS, coordinates_of
from noctile.pipeline.export.shapes import EXACT_SHARE, Scale, in_batches, polygons_of
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.export.trace import Focus, trace_foci
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.qupath import ObjectType, properties
from noctile.pipeline.wrong_values import did_you_mean

MAX_ANNOTATIONS = 1000
"""Most foci that become annotations; more of them become detections, which QuPath draws fast."""

_READ_PX, _STRIP_PX = 2**26, 2**23
"""Most pixels of the label map that are read at once, and that are traced at once."""

_BATCH_CORNERS = 2**18
"""Most corners of foci whose polygons are made at once."""

_PIECE_BYTES = 2**20
"""Most bytes of the temporary file that are copied at once (B); the kind of an object is in the
first of them."""

_KIND = "\0"
"""Mark in the temporary file in place of the kind of an object. JSON text never holds it."""


def write_geojson(
    source: ExportSource,
    path: Path,
    *,
    classes: Sequence[str] = (),
    simplify_um: float | None = None,
    min_area_um2: float = 0.0,
    min_hole_um2: float = 0.0,
) -> None:
    """Write the foci of a slide as a GeoJSON FeatureCollection, one feature on each line.

    A focus is a set of pixels of one class, connected over their sides (4 neighbours). Coordinates
    are level-0 pixels of the slide as QuPath opens it. The area of each focus is that of its
    pixels. The same result makes the same bytes.

    Args:
        source: result of the slide.
        path: path of the file.
        classes: names of the classes whose foci are written; empty for all.
        simplify_um: largest distance by which an outline may be moved to save points (um); 0 for
            outlines along pixel edges; None for `EXACT_SHARE` of a pixel of the label map.
        min_area_um2: area below which a focus is left out (um2).
        min_hole_um2: area below which a hole is filled (um2).

    Raises:
        StoreError: if the result cannot be read, or has no such class.
        OSError: if the file system refuses.
    """
    frame = source.frames[0]
    if simplify_um is None:
        simplify_um = round(EXACT_SHARE * min(frame.mpp_y, frame.mpp_x), 4)
    limits = (simplify_um, min_area_um2, min_hole_um2)
    writer = _Writer(source, _chosen(source, classes), *limits)
    with tempfile.TemporaryFile(dir=path.parent, prefix=".") as spool:
        for foci in trace_foci(_strips(source, writer.classes), frame.extent.width):
            for batch in in_batches(foci, _corners, _BATCH_CORNERS):
                writer.write(batch, spool)
        spool.seek(0)
        with path.open("wb") as file:
            writer.copy(spool, file)


class _Writer:
    """Writer of the features of a slide.

    Args:
        source: result of the slide.
        classes: class of each label that is written.
        simplify_um: largest distance by which an outline may be moved (um).
        min_area_um2: area below which a focus is left out (um2).
        min_hole_um2: area below which a hole is filled (um2).

    Attributes:
        classes: class of each label that is written.
    """

    def __init__(
        self,
        source: ExportSource,
        classes: dict[int, ClassInfo],
        simplify_um: float,
        min_area_um2: float,
        min_hole_um2: float,
    ) -> None:
        frame = source.frames[0]
        self.classes = classes
        self._scale = Scale(frame.mpp_y, frame.mpp_x, *source.qupath_scale)
        self._mm2 = frame.pixel_area_mm2
        self._min_px = min_area_um2 / (frame.mpp_y * frame.mpp_x)
        self._simplify_um, self._min_hole_um2 = simplify_um, min_hole_um2
        self._id = f"noctile:{source.summary.get('key')}"
        self._n = 0
        self._about = {
            "slide_id": source.slide_id,
            "model": source.summary.get("model"),
            "label_map_mpp_um": [frame.mpp_y, frame.mpp_x],
            "connectivity": "4 neighbours",
            "simplified_by_at_most_um": simplify_um,
            "foci_left_out_below_um2": min_area_um2,
            "holes_filled_below_um2": min_hole_um2,
        }

    def write(self, foci: Sequence[Focus], spool: BinaryIO) -> None:
        """Write features to the temporary file; a large focus must be alone."""
        foci = [focus for focus in foci if focus.area_px >= self._min_px]
        self._n += len(foci)
        limits = (self._scale, self._simplify_um, self._min_hole_um2)
        if len(foci) == 1 and _corners(foci[0]) > LARGE_CORNERS:
            spool.write(self._head(foci[0]) + b'{"type": "Polygon", "coordinates": ')
            spool.writelines(piece.encode() for piece in coordinates_of(foci[0], *limits))
            spool.write(b"}}\n")
            return
        geometries = shapely.to_geojson(polygons_of(foci, *limits))
        for focus, geometry in zip(foci, geometries, strict=True):
            spool.write(self._head(focus) + f"{geometry}}}\n".encode())

    def copy(self, spool: BinaryIO, file: BinaryIO) -> None:
        """Write the collection, with the features of the temporary file."""
        kind: ObjectType = "annotation" if self._n <= MAX_ANNOTATIONS else "detection"
        head = json.dumps({"type": "FeatureCollection", "noctile": self._about})
        file.write(f'{head[:-1]}, "features": ['.encode())
        separator = b"\n"
        while piece := spool.readline(_PIECE_BYTES):
            if separator:
                piece = piece.replace(_KIND.encode(), kind.encode(), 1)
            file.write(separator + piece.rstrip(b"\n"))
            separator = b",\n" if piece.endswith(b"\n") else b""
        file.write(b"\n]}\n")

    def _head(self, focus: Focus) -> bytes:
        """Text of a feature up to its geometry."""
        info = self.classes[focus.label]
        about = properties(
            info.name,
            info.color,
            locked=True,
            measurements={"Area mm^2": round(focus.area_px * self._mm2, 9)},
        )
        texts = json.dumps({**about, "objectType": ""})
        texts = texts.replace('"objectType": ""', f'"objectType": "{_KIND}"', 1)
        name = f"{self._id}:{info.name}:{focus.y}:{focus.x}"
        return (
            f'{{"type": "Feature", "id": "{uuid.uuid5(uuid.NAMESPACE_URL, name)}", '
            f'"properties": {texts}, "geometry": '
        ).encode()


def _corners(focus: Focus) -> int:
    """Number of corners of all outlines of a focus."""
    return sum(map(len, focus.rings))


def _chosen(source: ExportSource, names: Sequence[str]) -> dict[int, ClassInfo]:
    """Classes that are written, by their labels.

    Raises:
        StoreError: if there is no class of a name.
    """
    known = {info.name: info for info in source.classes}
    for name in names:
        if name not in known:
            raise StoreError(
                f"{source.slide_id} has no class {name}{did_you_mean(name, known)}; its classes: "
                f"{', '.join(known)}"
            )
    return {info.code: info for info in source.classes if not names or info.name in names}


def _strips(source: ExportSource, classes: dict[int, ClassInfo]) -> Iterator[tuple[int, UInt8]]:
    """Strips of the label map that hold labels, each with its first row, from top to bottom.

    Labels that are not written are 0.
    """
    store, box = source.store, source.frames[0].box
    chunk_px, shard_px = store.layout.label_array(0).chunk[0], store.layout.shard_px(0)
    height = max(1, min(chunk_px, _READ_PX // box.width))
    part = max(1, _STRIP_PX // box.width)
    stored = {row for row, _ in store.stored_shards()}
    written = np.zeros(256, np.uint8)
    written[list(classes)] = list(classes)
    for y in range(0, box.height, height):
        strip = Box(y, 0, height, box.width).intersect(box)
        if stored.isdisjoint(range(y // shard_px, (strip.y_stop - 1) // shard_px + 1)):
            continue
        labels = store.read(strip)
        if len(classes) < len(source.classes):
            labels = written[labels]
        yield from ((y + k, labels[k : k + part]) for k in range(0, strip.height, part))
