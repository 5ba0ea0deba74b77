"""Cohort: from slides to patients, groups, tests, plots and a page, from the tables of results."""

import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from noctile.pipeline.cohort import manifest_headers, write_csv
from noctile.pipeline.columns import describe_columns
from noctile.pipeline.errors import StoreError, UsageError
from noctile.pipeline.models.folder import sha256_of
from noctile.pipeline.patients.analysis import Analysis, analyse
from noctile.pipeline.patients.annotated import Annotated, annotated
from noctile.pipeline.patients.audited import Audit, Audited, audited
from noctile.pipeline.patients.clinical import read_clinical
from noctile.pipeline.patients.conclusions import Conclusions, conclude
from noctile.pipeline.patients.join import Joined, join
from noctile.pipeline.patients.methods import (
    Origin,
    PointSample,
    checklist,
    methods_markdown,
    methods_paragraphs,
)
from noctile.pipeline.patients.question import make_question, parse_cut
from noctile.pipeline.patients.slides import cohort_slides
from noctile.pipeline.patients.tables import cohort_tables
from noctile.workflows.commands.audit_status import audit_progress
from noctile.workflows.commands.cohort_files import CohortFolder
from noctile.workflows.commands.cohort_measures import add_measures, why_missing
from noctile.workflows.commands.diff_side import different_values, run_record
from noctile.workflows.commands.opened import open_results
from noctile.workflows.results.audits import Audits
from noctile.workflows.results.files import json_text
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.settings import PIXEL_SETTINGS

PAGE: Final = "cohort.html"

_PACKAGES: Final = ("noctile", "numpy", "scipy", "pyarrow", "matplotlib")


@dataclass(frozen=True, slots=True)
class Asked:
    """Options of a call.

    Attributes:
        clinical: clinical table; None without one.
        patient: header of its column with patients; None for the usual ones.
        by: column that is compared; None for the only one.
        time: column with survival times; None without survival.
        event: column with events; None without survival.
        cuts: cuts as ``MEASURE=VALUE``.
        audit: True to correct areas with the answers of an audit.
        truth: folder with annotations of slides in full; None without any.
    """

    clinical: Path | None = None
    patient: str | None = None
    by: str | None = None
    time: str | None = None
    event: str | None = None
    cuts: tuple[str, ...] = ()
    audit: bool = False
    truth: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CohortResult:
    """Result of ``noctile cohort``.

    Attributes:
        analysis: the analysis.
        conclusions: question, answers and limits.
        annotated: shares by patients who are annotated in full; None without annotations.
        page: the page.
        files: paths of all files in the folder, sorted.
    """

    analysis: Analysis
    conclusions: Conclusions
    annotated: Annotated | None
    page: Path
    files: tuple[str, ...]


def cohort_results(results: Path, out: Path, asked: Asked) -> CohortResult:
    """Analyse the patients of a folder of results, and write tables, plots and a page.

    The results are only read.

    Args:
        results: folder of results.
        out: folder that is written: new, empty, or of an earlier call on the same results.
        asked: options of the call.

    Raises:
        UsageError: if a folder, a table or an option cannot be used.
        StoreError: if the file system refuses.
    """
    cuts = [parse_cut(text) for text in asked.cuts]
    if asked.patient is not None and asked.clinical is None:
        raise UsageError("--patient names a column of the clinical table; name it with --clinical")
    table = _read_table(results)
    folder = CohortFolder(out, results)
    found = ResultsFolder(results)
    rows = add_measures(found, table.to_pylist())
    joined = _joined(table, rows, asked)
    question = make_question(joined, asked.by, asked.time, asked.event, cuts)
    analysis = analyse(joined, question)
    audit = audited(analysis, _audit(found)) if asked.audit else None
    truth = _annotated(found, rows, joined, analysis, asked.truth)
    origin = replace(
        _origin(found, table),
        audit=_point_sample(found) if audit and audit.areas else None,
        annotated=truth.annotated if truth and truth.shares else 0,
    )
    conclusions = conclude(analysis, audit, truth)
    missing = why_missing(found, rows, analysis.missing)
    files = {
        **_table_files(cohort_tables(joined, analysis, audit, truth)),
        **_pages(results, joined, analysis, _About(conclusions, origin, audit, truth, missing)),
    }
    about = {"question": asdict(question), "clinical": _name(asked.clinical)}
    if truth and asked.truth:
        about["truth"] = {s.file: sha256_of(asked.truth / s.file) for s in truth.slides}
    folder.write(files, about)
    return CohortResult(analysis, conclusions, truth, out / PAGE, tuple(sorted(files)))


def _audit(results: ResultsFolder) -> Audit:
    """Frame and answers of the audit of a folder.

    Raises:
        UsageError: if there is none, or its files cannot be read.
    """
    audits = Audits(results)
    try:
        data = audits.sample()
    except StoreError as error:
        raise UsageError(str(error)) from error
    return Audit(data.frame, data.sample, data.slides, data.classes, data.stale)


def _point_sample(results: ResultsFolder) -> PointSample:
    audits = Audits(results)
    design, progress = audits.design(), audit_progress(audits)
    kappas = (found.kappa for found in progress.agreement.values())
    return PointSample(
        points=progress.points,
        slides=progress.frame,
        chosen=sum(slide.chosen for slide in design.slides),
        by=design.by,
        spacing_um=design.spacing_um,
        seed=design.seed,
        readers=len(progress.readers),
        kappas=tuple(kappa for kappa in kappas if not math.isnan(kappa.value)),
        batches=tuple(sorted({point.batch for point in audits.points()})),
    )


def _annotated(
    results: ResultsFolder,
    rows: Sequence[Mapping[str, Any]],
    joined: Joined,
    analysis: Analysis,
    folder: Path | None,
) -> Annotated | None:
    """Shares by patients who are annotated in full; None without annotations."""
    if folder is None:
        return None
    from noctile.workflows.commands.cohort_truth import read_cohort_truth  # noqa: PLC0415 - loads Zarr

    return annotated(analysis, read_cohort_truth(results, rows, joined, analysis, folder))


def _name(path: Path | None) -> str:
    return path.name if path else ""


def _read_table(results: Path) -> pa.Table:
    """Table of slides; made from the results themselves if it is old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a table that is made from the results is as good
        try:
            return open_results(results).table()
        except StoreError as error:
            raise UsageError(f"{results} cannot be read: {error}") from error


def _joined(table: pa.Table, rows: Sequence[Mapping[str, Any]], asked: Asked) -> Joined:
    headers = manifest_headers(table.schema)
    if "group" in table.column_names and table["group"].null_count < len(table):
        headers = {"group": "group", **headers}
    clinical = read_clinical(asked.clinical, asked.patient) if asked.clinical else None
    return join(cohort_slides(rows, headers), clinical)


def _origin(results: ResultsFolder, table: pa.Table) -> Origin:
    """Models, settings and versions behind the slides that are done."""
    done = [row for row in table.select(_ORIGIN).to_pylist() if row["status"] == "done"]
    models = sorted({(str(row["model"]), str(row["model_sha256"])) for row in done})
    runs = sorted({str(row["run"]) for row in done if row["run"]})
    settings = different_values([run_record(results, run).get("settings") for run in runs])
    kept = [
        (n, " or ".join(map(_shown, settings[n]))) for n in sorted(PIXEL_SETTINGS) if n in settings
    ]
    versions = {name: version(name) for name in _PACKAGES}
    return Origin(tuple(models), tuple(kept), {**versions, "python": python_version()}, tuple(runs))


_ORIGIN: Final = ["status", "model", "model_sha256", "run"]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:200]


def _table_files(tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
    """Each table as Parquet and as CSV, and the meaning of all columns."""
    files: dict[str, bytes] = {}
    for name, table in tables.items():
        parquet, csv = io.BytesIO(), io.BytesIO()
        pq.write_table(table, parquet, compression="zstd")
        write_csv(table, csv)
        files |= {f"{name}.parquet": parquet.getvalue(), f"{name}.csv": csv.getvalue()}
    columns = {name: describe_columns(table)["columns"] for name, table in tables.items()}
    return {**files, "columns.json": json_text(columns).encode()}


@dataclass(frozen=True, slots=True)
class _About:
    """Content of the pages beside the analysis.

    Attributes:
        conclusions: question, answers and limits.
        origin: models, settings and versions.
        audit: areas corrected by an audit; None without one.
        annotated: shares by patients who are annotated in full; None without annotations.
        missing: reason why a measure is missing, by its name.
    """

    conclusions: Conclusions
    origin: Origin
    audit: Audited | None
    annotated: Annotated | None
    missing: Mapping[str, str]


def _pages(results: Path, joined: Joined, analysis: Analysis, about: _About) -> dict[str, bytes]:
    """Page, flow diagram, plots and methods."""
    from noctile.pipeline.report.cohort_figures import cohort_pictures  # noqa: PLC0415 - slow to load
    from noctile.pipeline.report.cohort_page import CohortReport, cohort_page  # noqa: PLC0415
    from noctile.pipeline.report.flow_chart import flow_svg  # noqa: PLC0415

    conclusions, origin = about.conclusions, about.origin
    flow = flow_svg(analysis.flow, analysis.question.by)
    pictures = cohort_pictures(analysis)
    paragraphs = methods_paragraphs(joined, analysis, origin, about.audit, about.annotated)
    items = checklist(joined, analysis, origin)
    report = CohortReport(
        results.resolve().name,
        analysis,
        conclusions,
        flow,
        pictures,
        paragraphs,
        items,
        _name(joined.clinical.file if joined.clinical else None),
        about.missing,
        about.audit,
        about.annotated,
    )
    limits = [limit.text for limit in conclusions.may_not]
    texts = {
        PAGE: cohort_page(report),
        "flow.svg": flow,
        "methods.md": methods_markdown(paragraphs, items, limits),
    }
    return {
        **{name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()},
        **{f"plots/{p.name}.png": p.png for p in pictures},
        **{f"plots/{p.name}.svg": p.svg for p in pictures},
    }
