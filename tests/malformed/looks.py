"""What is done within limits: in a module of its own, which a new process imports in no time."""

from contextlib import closing
from pathlib import Path

from noctile.pipeline.errors import SlideError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue
from noctile.pipeline.truth.geojson import draw_codes, read_annotations, region_boxes
from noctile.pipeline.truth.scheme import BUILT_IN

FRAME = Frame(Extent(600, 700), 0.5, 0.5)
"""Of the masks that are read."""


def ids(*arguments: str | Path) -> list[str]:
    """Of the slides that a call names."""
    return [entry.slide_id for entry in find_slides(arguments, None, None, warn=lambda _: None)]


def slides_of(manifest: Path) -> list[str]:
    """Their ids."""
    return [entry.slide_id for entry in find_slides((), manifest, None)]


def look(path: Path) -> str:
    """What a run does with a slide first; how it ended in words that pickle."""
    try:
        with closing(open_slide(path)) as reader:
            find_tissue(*read_thumbnail(reader, 8.0), TissueSpec())
            reader.read(Box(0, 0, 300, 300), 0.5)
    except SlideError as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def read_and_draw(path: Path) -> int:
    """Draw the first region of a file of annotations; how many there are."""
    frame, areas = Frame(Extent(10_000, 10_000), 0.5, 0.5), read_annotations(path)
    for box in region_boxes(areas)[:1]:
        draw_codes(areas, BUILT_IN["bcss5"], frame, frame, box.intersect(frame.box), str(path))
    return len(areas)


def boxes_of(path: Path) -> list[Box]:
    """Of the regions of a file of annotations."""
    return region_boxes(read_annotations(path))


def read_store(path: Path) -> int:
    """Read all of a mask; the sum of its labels."""
    store = MaskStore.open(path)
    store.read_heat_maps(FRAME.box)
    store.read_thumbnail()
    return int(store.read_level(0).sum())
