"""JSON documents of ``--json``: one for each command, described in docs/json.md."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noctile.pipeline.models.card import ModelCard
    from noctile.pipeline.statistics.estimate import Estimate
    from noctile.workflows.commands.audit_status import AuditProgress, WantedArea
    from noctile.workflows.commands.cohort import CohortResult
    from noctile.workflows.commands.diff import DiffResult
    from noctile.workflows.commands.export import ExportResult
    from noctile.workflows.commands.plan import PlanResult
    from noctile.workflows.commands.regroup import RegroupResult
    from noctile.workflows.commands.status import Status
    from noctile.workflows.commands.verify import Verification
    from noctile.workflows.run.progress import RunResult

FORMAT = 1
"""Version of the documents, raised when a key is renamed or removed."""

Document = dict[str, Any]


def _document(command: str, values: Mapping[str, Any]) -> Document:
    return {"noctile": version("noctile"), "format": FORMAT, "command": command, **values}


def run_document(result: "RunResult", out: Path) -> Document:
    """Describe the end of a run."""
    slides = [
        {"slide_id": row.slide_id, "status": row.status, "reason": row.reason}
        | {"message": row.message}
        | {name: row.summary.get(name) for name in ("tumor_area_mm2", "tissue_area_mm2")}
        | {"qc_flags": row.qc_flags or []}
        for row in result.rows
    ]
    return _document(
        "run",
        {
            "out": out,
            "counts": {status: result.count(status) for status in ("done", "failed", "skipped")},
            "stopped": result.stopped,
            "exit_code": result.exit_code,
            "pace": asdict(result.pace),
            "not_exported": result.not_exported,
            "slides": slides,
        },
    )


def plan_document(result: "PlanResult", out: Path) -> Document:
    """Describe a preflight."""
    return _document(
        "plan", {"out": out, "exit_code": result.exit_code, "seconds": result.seconds}
    ) | asdict(result)


def status_document(status: "Status", state: str, out: Path) -> Document:
    """Describe the progress of a run.

    Args:
        status: the progress.
        state: ``at_work``, ``died``, ``stopped`` or ``ended``.
        out: folder of results.
    """
    values = asdict(status)
    if status.run:
        holder = {"text": str(status.run.holder), "silent_s": status.run.silent_s}
        values["run"] = {**holder, "alive": status.run.alive}
    return _document("status", {"out": out, "state": state, **values})


def verify_document(result: "Verification", out: Path) -> Document:
    """Describe the check of a folder of results."""
    return _document(
        "verify",
        {
            "out": out,
            "exit_code": result.exit_code,
            "checked": len(result.slides),
            "wrong": [asdict(check) for check in result.wrong],
            "tables": [asdict(fault) for fault in result.tables],
        },
    )


def regroup_document(result: "RegroupResult", out: Path) -> Document:
    """Describe results that were made with new classes."""
    left_out = [
        {"slide_id": slide_id, "message": why} for slide_id, why in sorted(result.damaged.items())
    ]
    return _document(
        "regroup",
        {
            "out": out,
            "exit_code": result.exit_code,
            "made": result.made,
            "stood": result.stood,
            "left_out": left_out,
            "reviews_left_out": list(result.reviews.damaged),
            "counts": dict(result.counts),
        },
    )


def diff_document(result: "DiffResult", out: Path) -> Document:
    """Describe a comparison."""
    return _document(
        "diff",
        {
            "out": out,
            "exit_code": result.exit_code,
            "counts": result.counts,
            "made": result.made,
            "tumor_area_mm2": asdict(result.limits) if result.limits else None,
            "provenance": result.provenance,
            "slides": result.rows,
        },
    )


def cohort_document(result: "CohortResult", out: Path) -> Document:
    """Describe a cohort."""
    flow, conclusions = result.analysis.flow, result.conclusions
    return _document(
        "cohort",
        {
            "out": out,
            "exit_code": 0,
            "question": conclusions.question,
            "answers": conclusions.answers,
            "limits": [asdict(limit) for limit in conclusions.may_not],
            "flow": asdict(flow),
            "files": result.files,
        },
    )


def audit_document(progress: "AuditProgress", areas: "Sequence[WantedArea]", out: Path) -> Document:
    """Describe the state of an audit.

    Args:
        progress: answers of the readers.
        areas: areas of the classes; empty with too few answers.
        out: folder of results.
    """
    agreement = [
        {"readers": pair, "points": kappa.points, "agreement": kappa.agreement}
        | {"kappa": _estimate(kappa.kappa)}
        for pair, kappa in progress.agreement.items()
    ]
    classes = [
        {
            "class": row.found.name,
            "points": row.found.areas.points,
            "area_mm2": _estimate(row.found.area.area_mm2),
            "half_width": _number(row.found.half_width),
            "wanted_half_width": _number(row.half_width),
            "further_points": row.further,
            "points_in_all": row.total,
        }
        for row in areas
    ]
    names = ("points", "slides", "frame", "left_out", "readers", "stale")
    values = {name: getattr(progress, name) for name in names}
    return _document("audit", {"out": out, **values, "agreement": agreement, "areas": classes})


def _estimate(found: "Estimate") -> Document:
    return {name: _number(value) for name, value in asdict(found).items()}


def _number(value: float) -> float | None:
    """Number for JSON, which has no NaN."""
    return None if math.isnan(value) else value


def models_document(cards: "Mapping[Path, ModelCard]") -> Document:
    """Describe the installed models.

    Args:
        cards: card of each model, by its folder.
    """
    models = [
        {"name": folder.name, "folder": folder}
        | card.model_dump(mode="json", include={"mpp", "licence", "description", "sha256"})
        | {"classes": [{"code": c.code, "name": c.name, "role": c.role} for c in card.classes]}
        for folder, card in cards.items()
    ]
    return _document("models", {"models": models})


def export_document(result: "ExportResult", out: Path) -> Document:
    """Describe an export."""
    return _document("export", {"out": out, "exit_code": result.exit_code} | asdict(result))
