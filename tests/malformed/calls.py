"""Calls that run within limits, in a module that a new process imports in a short time."""

from contextlib import closing
from pathlib import Path

from noctile.pipeline.errors import SlideError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue
from noctile.pipeline.truth.drawing import draw_codes
from noctile.pipeline.truth.geojson import read_annotations, region_boxes
from noctile.pipeline.truth.scheme import BUILT_IN

FRAME = Frame(Extent(600, 700), 0.5, 0.5)
"""Frame of the masks that are read."""


def ids(*arguments: str | Path) -> list[str]:
    """Find the ids of the slides of a call."""
    return [
        entry.slide_id for entry in find_slides(arguments, None, None, warn=lambda _: None).slides
    ]


def slides_of(manifest: Path) -> list[str]:
    """Find the ids of the slides of a manifest."""
    return [entry.slide_id for entry in find_slides((), manifest, None).slides]


def open_and_read(path: Path) -> str:
    """Open a slide, find its tissue and read pixels; "done", or the name and text of the error."""
    try:
        with closing(open_slide(path)) as reader:
            find_tissue(*read_thumbnail(reader, 8.0), TissueSpec())
            reader.read(Box(0, 0, 300, 300), 0.5)
    except SlideError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def read_and_draw(path: Path) -> int:
    """Draw the first region of a file of annotations; return the number of its areas."""
    frame, areas = Frame(Extent(10_000, 10_000), 0.5, 0.5), read_annotations(path)
    for box in region_boxes(areas)[:1]:
        draw_codes(areas, BUILT_IN["bcss5"], frame, frame, box.intersect(frame.box), str(path))
    return len(areas)


def boxes_of(path: Path) -> list[Box]:
    """Find the boxes of the regions of a file of annotations."""
    return region_boxes(read_annotations(path))


def read_store(path: Path) -> int:
    """Read all of a mask; return the sum of its labels."""
    store = MaskStore.open(path)
    store.read_heat_maps(FRAME.box)
    store.read_thumbnail()
    return int(store.read_level(0).sum())


def read_part(path: Path) -> int:
    """Read a part of a shard of a mask; return the sum of its labels."""
    return int(MaskStore.open(path).read(Box(0, 0, 10, 10)).sum())
