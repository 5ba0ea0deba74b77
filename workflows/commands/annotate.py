"""Mark tumor candidates by stain on slides without annotations.

    for each slide      find its tissue, compute evidence block by block, divide the tissue, write

A plain image gets a mask of codes of its own size; a slide gets an annotation that QuPath opens.
An existing mask or annotation is never replaced: it may be manual work. The measured quality of the
candidates is in pipeline/stain_candidates.py.
"""

import csv
import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from noctile.pipeline.csv_cells import escape_cell
from noctile.pipeline.errors import SlideError, UsageError
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.polygons import outlines
from noctile.pipeline.slides.base import SlideInfo, SlideReader
from noctile.pipeline.slides.discover import SlideEntry, find_slides
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.stain_candidates import (
    MARGIN_UM,
    MPP,
    SQUARE_PX,
    Candidates,
    average_squares,
    evidence,
    find_candidates,
)
from noctile.pipeline.tissue import TissueSpec, find_tissue
from noctile.pipeline.tissue_mask import TissueMask
from noctile.pipeline.truth.scheme import OTHER, OUTSIDE, TUMOR
from noctile.workflows.results.files import write_atomic

_COLORS = {"Tumor": (200, 0, 0), "Other": (160, 160, 160)}
"""Class names of QuPath with their colours; QuPath reads no class without a colour. (GsonTools,
PathClassTypeAdapter)"""

_BLOCK_PX = 2048
"""Side of a block (px of about 1 um): about 150 MB of memory with all values computed from it."""

_PLAIN = {"png", "jpeg", "generic-tiff"}
"""Vendors of plain images, which have a single level."""

Status = Literal["done", "no_tissue", "kept", "failed"]


@dataclass(frozen=True, slots=True)
class AnnotatedSlide:
    """Result for one slide: a row of ``annotated.csv``.

    Attributes:
        slide_id: name that is unique in the call.
        status: "done"; "no_tissue": nothing was written; "kept": there was a mask or annotation
            already; or "failed".
        file: name of the mask or annotation, or "".
        reason: reason of a failure, or "".
        mpp_source: origin of the pixel size, or "".
        tissue_mm2: area of the tissue (mm2), or None.
        candidate_mm2: area of the tumor candidates (mm2), or None.
        threshold: Otsu's threshold of the evidence (optical density), or None.
        flags: quality flags of the tissue.
    """

    slide_id: str
    status: Status
    file: str = ""
    reason: str = ""
    mpp_source: str = ""
    tissue_mm2: float | None = None
    candidate_mm2: float | None = None
    threshold: float | None = None
    flags: str = ""


def annotate(
    slides: Sequence[str | Path],
    out: Path,
    mpp: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[AnnotatedSlide]:
    """Mark tumor candidates on slides and images; a failure of one does not stop the others.

    It writes ``<slide_id>.png`` for a plain image (1 candidate, 21 other tissue, 0 glass),
    ``<slide_id>.geojson`` for a slide, and ``annotated.csv`` with a row for each of them.

    Args:
        slides: files, folders (with plain images) and globs, see `find_slides`.
        out: folder of the results; made if it is missing. Training reads a folder ``masks`` beside
            ``images``.
        mpp: size of a level-0 pixel (um); it overrides the files.
        say: takes a line of progress after each slide.

    Returns:
        A row for each slide.

    Raises:
        UsageError: if there is nothing to read, or ``out`` cannot be written, or a mask would
            overwrite an image.
    """
    entries = find_slides(slides, None, mpp, images=True, warn=say).slides
    _check_out(out, entries)
    rows = []
    for entry in entries:
        row = _annotate_one(entry, out)
        say(_line(row))
        rows.append(row)
    write_atomic(out / "annotated.csv", lambda path: _write_rows(path, rows))
    return rows


def find_slide_candidates(reader: SlideReader) -> tuple[Candidates, TissueMask]:
    """Find the tumor candidates of an open slide, and its tissue.

    Memory holds one block at about 1 um per pixel, and the evidence and candidates of the whole
    slide at about 4 um: about 20 bytes for each 16 um2. A slide of 100,000 x 80,000 pixels of 0.25
    um took at most 673 MB, with all libraries.

    Raises:
        SlideReadError: if its pixels cannot be decoded.
    """
    frame = reader.info.frame
    spec = TissueSpec()
    tissue = find_tissue(*read_thumbnail(reader, spec.mpp), spec)
    fine = frame.at(MPP)
    rough = fine.coarser(SQUARE_PX)
    values = np.zeros((rough.extent.height, rough.extent.width), np.float32)
    for block in _blocks(fine):
        part = fine.project(block, rough)
        if tissue.on(part, rough).any():
            values[part.slices()] = _evidence_of(reader, block, fine)
    return find_candidates(values, rough, tissue.on(rough.box, rough)), tissue


def _check_out(out: Path, entries: Sequence[SlideEntry]) -> None:
    """Make the folder of the results, and check that no mask would overwrite an image."""
    inputs = {entry.path.resolve(): entry.path for entry in entries}
    for entry in entries:
        if found := inputs.get((out / f"{entry.slide_id}.png").resolve()):
            raise UsageError(
                f"--out {out}: the mask of {entry.path} would overwrite {found}. Use another folder"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}") from error


def _annotate_one(entry: SlideEntry, out: Path) -> AnnotatedSlide:
    """Annotate one slide, unless it has a mask or annotation already."""
    slide_id = entry.slide_id
    for name in (f"{slide_id}.png", f"{slide_id}.geojson"):
        if (out / name).exists():
            return AnnotatedSlide(slide_id, "kept", name)
    try:
        with closing(open_slide(entry.path, slide_id=slide_id, mpp=entry.mpp)) as reader:
            info = reader.info
            found, tissue = find_slide_candidates(reader)
        name = _write(found, tissue, info, out) if tissue.mask.any() else ""
    except SlideError as error:
        return AnnotatedSlide(slide_id, "failed", reason=f"{error.reason}: {error}")
    areas, flags = (round(tissue.area_mm2, 4), round(found.area_mm2, 4)), " ".join(tissue.flags)
    status: Status = "done" if name else "no_tissue"
    return AnnotatedSlide(
        slide_id, status, name, "", info.mpp_source, *areas, found.threshold, flags
    )


def _write(found: Candidates, tissue: TissueMask, info: SlideInfo, out: Path) -> str:
    """Write the mask of a plain image or the annotation of a slide; return the file's name."""
    if info.vendor in _PLAIN and len(info.levels) == 1:
        codes = draw_mask(found, tissue, info.frame)
        name = f"{info.slide_id}.png"
        write_atomic(out / name, lambda path: Image.fromarray(codes).save(path))
        return name
    name = f"{info.slide_id}.geojson"
    write_atomic(out / name, lambda path: _write_features(path, found, info))
    return name


def draw_mask(found: Candidates, tissue: TissueMask, frame: Frame) -> npt.NDArray[np.uint8]:
    """Draw the mask of an image in the image's own pixels.

    Returns:
        uint8 ``[h, w]``: `TUMOR`, `OTHER` or `OUTSIDE`.
    """
    codes = np.empty((frame.extent.height, frame.extent.width), np.uint8)
    for y in range(0, frame.extent.height, _BLOCK_PX):
        strip = Box(y, 0, _BLOCK_PX, frame.extent.width).intersect(frame.box)
        inside = tissue.on(strip, frame)
        codes[strip.slices()] = np.where(
            inside, np.where(found.on(strip, frame), TUMOR, OTHER), OUTSIDE
        )
    return codes


def geojson_features(found: Candidates, info: SlideInfo) -> Iterator[dict[str, Any]]:
    """GeoJSON features without overlap: the pieces of the candidates, then of the other tissue.

    Points are in pixels of level 0, within the slide's bounds as in QuPath. ``objectType`` is in
    the properties, where QuPath reads it. Ids are UUIDs made from the slide's fingerprint.
    (qupath-core, QuPathTypeAdapters)
    """
    number = itertools.count()
    for name, field in (("Tumor", found.field), ("Other", found.rest)):
        for rings in outlines(field, found.frame, info.frame):
            yield {
                "type": "Feature",
                "id": str(
                    uuid.uuid5(uuid.NAMESPACE_URL, f"noctile:{info.fingerprint}:{next(number)}")
                ),
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [np.round(ring, 1).tolist() for ring in rings],
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": name, "color": list(_COLORS[name])},
                    "metadata": {
                        "made by": "noctile annotate: tumor candidates by stain, seen by nobody"
                    },
                },
            }


def _write_features(path: Path, found: Candidates, info: SlideInfo) -> None:
    """Write a GeoJSON FeatureCollection, one feature on each line."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for k, feature in enumerate(geojson_features(found, info)):
            file.write(("," if k else "") + "\n" + json.dumps(feature))
        file.write("\n]}\n")


def _blocks(frame: Frame) -> Iterator[Box]:
    """Blocks of `_BLOCK_PX` that cover a frame."""
    for y in range(0, frame.extent.height, _BLOCK_PX):
        for x in range(0, frame.extent.width, _BLOCK_PX):
            yield Box(y, x, _BLOCK_PX, _BLOCK_PX).intersect(frame.box)


def _evidence_of(reader: SlideReader, block: Box, frame: Frame) -> npt.NDArray[np.float32]:
    """Evidence of a block in squares of `SQUARE_PX`, independent of the size of blocks.

    The block is read with the margin on which its evidence depends.
    """
    wide = block.grow(int(np.ceil(MARGIN_UM / frame.mpp))).intersect(frame.box)
    return average_squares(evidence(reader.read(wide, MPP), frame)[block.slices(wide)])


def _line(row: AnnotatedSlide) -> str:
    """One line of progress about a finished slide."""
    if row.status == "failed":
        return f"{row.slide_id}: failed, {row.reason}"
    if row.status == "kept":
        return f"{row.slide_id}: {row.file} exists already and is not changed"
    if row.status == "no_tissue":
        return f"{row.slide_id}: no tissue to mark ({row.flags})"
    flags = f" ({row.flags})" if row.flags else ""
    areas = f"candidates {row.candidate_mm2:.3f} of {row.tissue_mm2:.3f} mm2"
    return f"{row.slide_id}: {row.file}, {areas}{flags}"


def _write_rows(path: Path, rows: Sequence[AnnotatedSlide]) -> None:
    """Write annotated.csv."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(AnnotatedSlide)])
        writer.writeheader()
        writer.writerows(
            {
                name: escape_cell(value) if isinstance(value, str) else value
                for name, value in asdict(row).items()
            }
            for row in rows
        )
