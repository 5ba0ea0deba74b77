"""Audit of a folder of results: its points are drawn once, and then answered by readers."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.audit.design import DEFAULT_POINTS, allocate, choose_slides
from noctile.pipeline.audit.draw import SPACING_UM, DrawnPoint, LabelParts, draw_points
from noctile.pipeline.audit.kappa import Kappa, cohens_kappa
from noctile.pipeline.audit.sample import UNSURE
from noctile.pipeline.cohort import SlideRow
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.plan import TilePlan
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.untrusted import printable
from noctile.pipeline.wrong_values import did_you_mean
from noctile.workflows.commands.opened import open_results
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.results.audit_rows import (
    MOST_POINTS,
    SPECIAL_ANSWERS,
    AuditAnswer,
    AuditClass,
    AuditDesign,
    AuditPoint,
    AuditSlide,
)
from noctile.workflows.results.audits import Audits, point_weights
from noctile.workflows.results.files import read_required_json
from noctile.workflows.results.layout import ResultsFolder, SlideFolder
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.results.shared_files import time_text
from noctile.workflows.results.standing import read_standing

_AREA_TOLERANCE_MM2 = 2e-6
"""Difference between an area and the count of its pixels that rounding explains (mm2)."""


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """Options of an audit that are given when its points are drawn.

    Attributes:
        points: number of points; None for that of the audit, or 300.
        by: column of the table of slides that names the groups; None for that of the audit.
        seed: seed of all random choices; None for that of the audit, or 0.
    """

    points: int | None = None
    by: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """State of an audit.

    Attributes:
        points: number of points.
        slides: number of slides with points.
        frame: number of slides that the audit speaks for.
        left_out: number of slides that it does not speak for, by reason.
        readers: number of answers of each reader, by name.
        stale: slides with points whose result has gone or was made anew since.
        agreement: agreement of each two readers who answered the same points, by their names.
    """

    points: int
    slides: int
    frame: int
    left_out: Mapping[str, int]
    readers: Mapping[str, int]
    stale: Sequence[str]
    agreement: Mapping[tuple[str, str], Kappa]


def open_audit(path: Path, request: AuditRequest) -> Audits:
    """Open the audit of a folder of results; draw its points if there are none.

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
    design = audits.design()
    drawn = AuditRequest(design.points, design.by, design.seed)
    asked = replace(
        drawn, **{k: v for k in ("points", "by", "seed") if (v := getattr(request, k)) is not None}
    )
    if asked != drawn:
        by = f" --by {printable(design.by)}" if design.by else ""
        raise UsageError(
            f"the audit of {path} was drawn with --points {design.points}{by} --seed "
            f"{design.seed}, and a drawn audit is not replaced; leave these options out to "
            f"continue it, or move {folder.audit} away to draw another"
        )
    return audits


def audit_progress(audits: Audits) -> AuditProgress:
    """Return the state of an audit.

    Raises:
        StoreError: if a file of the audit is damaged, or there is none.
    """
    design, points, answers = audits.design(), audits.points(), audits.answers()
    return AuditProgress(
        len(points),
        len({point.slide_id for point in points}),
        len(design.slides),
        design.left_out,
        dict(sorted(Counter(row.reader for row in answers).items())),
        audits.stale(),
        _agreement(design, answers),
    )


def _agreement(design: AuditDesign, answers: Sequence[AuditAnswer]) -> dict[tuple[str, str], Kappa]:
    """Agreement of each two readers, each point counted once."""
    numbers = {name: k for k, name in enumerate(design.class_names)} | SPECIAL_ANSWERS
    points = {name: row for row, name in enumerate(sorted({a.point_id for a in answers}))}
    given: defaultdict[str, Int64] = defaultdict(lambda: np.full(len(points), UNSURE, np.int64))
    for answer in answers:
        given[answer.reader][points[answer.point_id]] = numbers[answer.answer]
    pairs = {pair: (given[pair[0]], given[pair[1]]) for pair in combinations(sorted(given), 2)}
    found = {pair: cohens_kappa(*both, len(design.classes)) for pair, both in pairs.items()}
    return {pair: kappa for pair, kappa in found.items() if kappa is not None}


def _draw(results: ResultsFolder, request: AuditRequest) -> tuple[AuditDesign, list[AuditPoint]]:
    """Draw design and points.

    Raises:
        UsageError: if there are no slides to draw from, or the options do not fit.
        StoreError: if a result is damaged.
    """
    points = DEFAULT_POINTS if request.points is None else request.points
    seed, by = request.seed or 0, request.by or ""
    if points > MOST_POINTS:
        raise UsageError(f"an audit has at most {MOST_POINTS} points, not {points}")
    rows, left_out = _frame_rows(results)
    classes = _classes(results, rows)
    _check_by(by, rows)
    slides = [_slide(row, by) for row in rows]
    areas = np.array([[s.area_mm2[c.name] for c in classes] for s in slides])
    groups, patients = (
        np.unique([getattr(s, name) for s in slides], return_inverse=True)[1].astype(np.int64)
        for name in ("group", "patient")
    )
    probability, chosen = choose_slides(areas.sum(axis=1), groups, patients, seed=seed)
    counts = np.zeros(areas.shape, np.int64)
    counts[chosen] = allocate(areas[chosen], groups[chosen], probability[chosen], points, seed)
    design = AuditDesign(
        points,
        by,
        seed,
        SPACING_UM,
        time_text(datetime.now(UTC)),
        {"noctile": version("noctile")},
        classes,
        left_out,
        tuple(replace(s, probability=float(p)) for s, p in zip(slides, probability, strict=True)),
    )
    return design, _draw_points(results, design, counts)


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


def _draw_points(results: ResultsFolder, design: AuditDesign, counts: Int64) -> list[AuditPoint]:
    """Draw points on all slides; their names are given in random order.

    Raises:
        StoreError: if a result is damaged.
    """
    rng, drawn = np.random.default_rng([design.seed, 1]), list[AuditPoint]()
    for slide, wanted in zip(design.slides, counts.tolist(), strict=True):
        if any(wanted):
            drawn += _slide_points(results.slide(slide.slide_id), slide, design, wanted, rng)
    weights = point_weights(design, [(point.slide_id, point.stratum) for point in drawn])
    digits = len(str(len(drawn)))
    names = [f"p{number:0{digits}}" for number in (1 + rng.permutation(len(drawn))).tolist()]
    named = zip(drawn, names, weights, strict=True)
    found = [replace(p, point_id=name, weight_mm2=weight) for p, name, weight in named]
    return sorted(found, key=lambda point: point.point_id)


def _slide_points(
    folder: SlideFolder,
    slide: AuditSlide,
    design: AuditDesign,
    wanted: Sequence[int],
    rng: np.random.Generator,
) -> list[AuditPoint]:
    """Draw the points of one slide, without names and weights.

    Raises:
        StoreError: if the result is damaged.
    """
    try:
        parts = label_parts(folder, [info.code for info in design.classes])
        counted = parts.pixels.sum(axis=0) * (parts.mpp[0] * parts.mpp[1] / 1e6)
        if np.abs(counted - list(slide.area_mm2.values())).max() > _AREA_TOLERANCE_MM2:
            raise ValueError("blocks.json and summary.json have different areas")
        drawn = draw_points(parts, wanted, rng)
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
    return AuditPoint("", slide.slide_id, y_px, x_px, *um, stratum, slide.group, 0.0)


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
