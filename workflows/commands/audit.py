"""Audit of a folder of results: its points are drawn, and more of them later if asked for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.audit.design import (
    DEFAULT_POINTS,
    PAIR,
    PIXELS,
    POINT_AREA_MM2,
    allocate,
    choose_slides,
)
from noctile.pipeline.audit.draw import SPACING_UM, DrawnPoint, LabelParts, draw_points
from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.untrusted import printable
from noctile.pipeline.wrong_values import did_you_mean
from noctile.workflows.commands.opened import open_results
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.audit_arrays import (
    frame_of,
    last_batch,
    point_counts,
    point_weights,
)
from noctile.workflows.results.audit_rows import (
    MOST_POINTS,
    SPECIAL_ANSWERS,
    AuditClass,
    AuditDesign,
    AuditPoint,
    AuditSlide,
)
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.shared_files import time_text
from noctile.workflows.results.standing import read_standing

_MOST_NAMED = 8
"""Most slides that a message names."""

_AREA_TOLERANCE_MM2 = 2e-6
"""Difference between an area and the count of its pixels that rounding explains (mm2)."""


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """Options of an audit that are given when its points are drawn.

    Attributes:
        points: number of points in total; None for that of the audit, or 300.
        by: column of the table of slides that names the groups; None for that of the audit.
        seed: seed of all random choices; None for that of the audit, or 0.
        slides: number of slides to choose; None for that of the audit, or all.
    """

    points: int | None = None
    by: str | None = None
    seed: int | None = None
    slides: int | None = None


def open_audit(path: Path, request: AuditRequest) -> Audits:
    """Open the audit of a folder of results; draw the points that it lacks.

    Args:
        path: folder of results.
        request: how to draw.

    Raises:
        UsageError: if the folder holds no results, the audit was drawn in another way, or nothing
            can be drawn.
        StoreError: if a file of the audit or a result is damaged.
    """
    folder = ResultsFolder(open_results(path).path)
    audits = Audits(folder)
    if not audits.exists():
        audits.begin(lambda: _draw(folder, request))
    design, points = audits.design(), last_batch(audits.points())
    total = request.points or points
    drawn = AuditRequest(points, design.by, design.seed, design.n_slides)
    names = ("by", "seed", "slides")
    asked = replace(drawn, **{k: v for k in names if (v := getattr(request, k)) is not None})
    if asked != drawn or total < points:
        by = f" --by {printable(design.by)}" if design.by else ""
        slides = f" --slides {design.n_slides}" if design.n_slides else ""
        raise UsageError(
            f"the audit of {path} was drawn with --points {points}{slides}{by} --seed "
            f"{design.seed}. Points can be added to it, and nothing else can be changed; leave "
            f"these options out to continue it, or move {folder.audit} away to draw another"
        )
    audits.extend(total, lambda there: _draw_further(folder, audits, total, there))
    return audits


def _draw(results: ResultsFolder, request: AuditRequest) -> tuple[AuditDesign, list[AuditPoint]]:
    """Draw design and points.

    Raises:
        UsageError: if there are no slides to draw from, they are too small, or the options do not
            fit.
        StoreError: if a result is damaged.
    """
    points = DEFAULT_POINTS if request.points is None else request.points
    seed, by = request.seed or 0, request.by or ""
    rows, left_out = _frame_rows(results)
    classes = _classes(results, rows)
    _check_by(by, rows)
    design = AuditDesign(
        points,
        by,
        seed,
        SPACING_UM,
        time_text(datetime.now(UTC)),
        {"noctile": version("noctile")},
        classes,
        left_out,
        tuple(_slide(row, by) for row in rows),
        request.slides,
    )
    frame, _ = frame_of(design)
    area = frame.area_mm2.sum(axis=1)
    found = choose_slides(area, frame.groups, frame.patients, request.slides, seed)
    parts = zip(design.slides, *found, strict=True)
    slides = (replace(s, probability=float(p), chosen=bool(chosen)) for s, p, chosen in parts)
    design = replace(design, slides=tuple(slides))
    if not (drawn := _draw_batch(results, design, points, [])):
        raise UsageError(
            f"no predicted class of a group has {PAIR * POINT_AREA_MM2:g} mm² on the slides of "
            f"{results.path}, the least area for two points, so no audit is drawn"
        )
    return design, drawn


def _draw_further(
    results: ResultsFolder, audits: Audits, total: int, there: Sequence[AuditPoint]
) -> list[AuditPoint]:
    """Draw points that an audit lacks to a total.

    Raises:
        UsageError: if a slide is not as it was when the audit was drawn, or there is no room.
        StoreError: if a file of the audit or a result is damaged.
    """
    if stale := audits.stale(pointless=True):
        raise UsageError(
            "no points can be added, because these slides were done again or have gone since the "
            f"audit was drawn: {listed(stale)}; move {results.audit} away to draw another"
        )
    points = _draw_batch(results, audits.design(), total, there)
    if len(points) == len(there):
        raise UsageError(
            f"the slides have no room for more than the {len(there)} points that are drawn; leave "
            "--points out to continue the audit"
        )
    return points


def listed(names: Sequence[str]) -> str:
    """Name the first slides of a list."""
    return f"{', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else ''}"


def _draw_batch(
    results: ResultsFolder, design: AuditDesign, total: int, there: Sequence[AuditPoint]
) -> list[AuditPoint]:
    """Draw points on the chosen slides, and give all points their weights.

    The new points have names in random order, after those that are there.

    Raises:
        UsageError: if the points are too few, or too many.
        StoreError: if a result is damaged.
    """
    if total > MOST_POINTS:
        raise UsageError(f"an audit has at most {MOST_POINTS} points, not {total}")
    counts = _allocate(design, total, there)
    stream = [design.seed, PIXELS, total] if there else [design.seed, PIXELS]
    rng, drawn = np.random.default_rng(stream), list[AuditPoint]()
    for slide, wanted in zip(design.slides, counts.tolist(), strict=True):
        if any(wanted):
            taken = [point for point in there if point.slide_id == slide.slide_id]
            folder = results.slide(slide.slide_id)
            drawn += _slide_points(folder, slide, design, wanted, taken, rng)
    digits = len(str(len(there) + len(drawn)))
    numbers = len(there) + 1 + rng.permutation(len(drawn))
    named = [
        replace(point, point_id=f"p{number:0{digits}}", batch=total)
        for point, number in zip(drawn, numbers.tolist(), strict=True)
    ]
    points = [*there, *sorted(named, key=lambda point: point.point_id)]
    weights = point_weights(design, points)
    return [replace(p, weight_mm2=w) for p, w in zip(points, weights, strict=True)]


def _allocate(design: AuditDesign, total: int, there: Sequence[AuditPoint]) -> Int64:
    """Number of points to draw on each slide in each class, int64 ``[slides, classes]``.

    Raises:
        UsageError: if the points are too few.
    """
    frame, _ = frame_of(design)
    rows = np.flatnonzero([slide.chosen for slide in design.slides])
    drawn, counts = point_counts(design, there), np.zeros(frame.area_mm2.shape, np.int64)
    part = frame.area_mm2[rows], frame.groups[rows], frame.probability[rows]
    counts[rows] = allocate(*part, total, design.seed, drawn[rows] if there else None)
    return counts


def _frame_rows(results: ResultsFolder) -> tuple[list[SlideRow], dict[str, int]]:
    """Rows of the slides that an audit speaks for, and the number of all others by reason.

    Raises:
        UsageError: if there are none.
    """
    rejected = {r.slide_id for r in Reviews(results).all() if r.status == "rejected"}
    kept, left_out = list[SlideRow](), Counter[str]()
    for row in read_standing(results).rows():
        if row.status != "done":
            left_out[row.status] += 1
        elif row.slide_id in rejected:
            left_out["rejected by a reviewer"] += 1
        elif not row.summary.get("tissue_area_mm2"):
            left_out["without tissue"] += 1
        else:
            kept.append(row)
    if not kept:
        raise UsageError(
            f"{results.path} has no slide that is done, has tissue and was not rejected"
        )
    return kept, dict(sorted(left_out.items()))


def _classes(results: ResultsFolder, rows: Sequence[SlideRow]) -> tuple[AuditClass, ...]:
    """Classes of the first slide; all slides must have the same.

    Raises:
        UsageError: if they have not, or a class has the name of another answer.
        StoreError: if a result cannot be opened.
    """
    names = list(_areas(rows[0]))
    for row in rows:
        if list(_areas(row)) != names:
            raise UsageError(
                f"{rows[0].slide_id} and {row.slide_id} have different classes, and an audit needs "
                "one model for all slides; `noctile regroup` gives them the same classes"
            )
    if taken := sorted(SPECIAL_ANSWERS.keys() & set(names)):
        raise UsageError(
            f"the class {taken[0]} has the name of an answer; rename it with `noctile regroup`"
        )
    found = {c.name: c for c in MaskStore.open(results.slide(rows[0].slide_id).mask).layout.classes}
    if found.keys() != set(names):
        raise StoreError(f"{rows[0].slide_id}: mask and summary.json have different classes")
    return tuple(
        AuditClass(name, found[name].code, found[name].role, found[name].color) for name in names
    )


def _areas(row: SlideRow) -> Mapping[str, float]:
    areas: Mapping[str, float] = row.summary.get("class_area_mm2", {})
    return areas


def _slide(row: SlideRow, by: str) -> AuditSlide:
    """Slide of the frame, before the design has given it a probability.

    Raises:
        UsageError: if there is no such column.
    """
    cells = {"patient_id": row.patient_id or "", "group": row.group or "", **dict(row.extra)}
    key = str(row.summary.get("key", ""))
    areas = {name: float(mm2) for name, mm2 in _areas(row).items()}
    patient = cells["patient_id"] or row.slide_id
    return AuditSlide(row.slide_id, key, patient, cells.get(by, ""), areas, 1.0)


def _check_by(by: str, rows: Sequence[SlideRow]) -> None:
    """Check that some slide has a value in a column of the manifest.

    Raises:
        UsageError: if none has.
    """
    columns = dict.fromkeys(name for row in rows for name, _ in row.extra)
    columns |= dict.fromkeys(("patient_id", "group"))
    if by and not any(_slide(row, by).group for row in rows):
        raise UsageError(
            f"--by {printable(by)} is no column of the manifest that is filled"
            f"{did_you_mean(by, list(columns))}; the columns are "
            f"{', '.join(map(printable, columns))}"
        )


def _slide_points(
    folder: SlideFolder,
    slide: AuditSlide,
    design: AuditDesign,
    wanted: Sequence[int],
    taken: Sequence[AuditPoint],
    rng: np.random.Generator,
) -> list[AuditPoint]:
    """Draw points of one slide apart from those that it has, without names and weights.

    Raises:
        StoreError: if the result is damaged.
    """
    try:
        parts = label_parts(folder, [info.code for info in design.classes])
        counted = parts.pixels.sum(axis=0) * (parts.mpp[0] * parts.mpp[1] / 1e6)
        if np.abs(counted - list(slide.area_mm2.values())).max() > _AREA_TOLERANCE_MM2:
            raise ValueError("blocks.json and summary.json have different areas")
        there = [_drawn(point, parts.mpp) for point in taken]
        drawn = draw_points(parts, wanted, rng, there)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"the result of {slide.slide_id} cannot be used: {error!s:.200}; `noctile verify` "
            "finds what is damaged"
        ) from error
    result, names = SlideResult(folder), design.class_names
    return [_point(result, parts.mpp, slide, point, names[point.stratum]) for point in drawn]


def _point(
    result: SlideResult,
    mpp: tuple[float, float],
    slide: AuditSlide,
    point: DrawnPoint,
    stratum: str,
) -> AuditPoint:
    """Place a point at the centre of its pixel."""
    y, x = point.y + 0.5, point.x + 0.5
    y_px, x_px = (round(float(value), 3) for value in result.to_level0(y, x))
    um = round(y * mpp[0], 3), round(x * mpp[1], 3)
    return AuditPoint("", slide.slide_id, y_px, x_px, *um, stratum, slide.group, 0.0, 0)


def _drawn(point: AuditPoint, mpp: tuple[float, float]) -> DrawnPoint:
    """Pixel of the label map at whose centre a point lies."""
    return DrawnPoint(round(point.y_um / mpp[0] - 0.5), round(point.x_um / mpp[1] - 0.5), 0)


def label_parts(folder: SlideFolder, codes: Sequence[int]) -> LabelParts:
    """Label map of a finished slide, in the parts whose labels its run has counted.

    Args:
        folder: folder of the slide.
        codes: codes of the classes of the label map, in the order of the model.

    Raises:
        StoreError: if a file cannot be read.
        LookupError: if a file is not as a run writes it (TypeError, ValueError, AttributeError
            too).
    """
    plan = TilePlan.from_json(read_required_json(folder.plan)["plan"])
    written = read_required_json(folder.block_stats_file)
    cores = [
        core
        for block in plan.blocks
        for core in BlockStats.from_json(written[f"{block.row}.{block.col}"]).cores
        if any(core.pixels)
    ]
    boxes = [plan.grid.core(core.row, core.col).intersect(plan.frame.box) for core in cores]
    pixels = np.array([core.pixels for core in cores], np.int64).reshape(-1, len(codes))
    store = MaskStore.open(folder.mask)
    if store.layout.frame != plan.frame:
        raise ValueError("plan.json and mask have different frames")
    return LabelParts(boxes, pixels, codes, (plan.frame.mpp_y, plan.frame.mpp_x), store.read)
