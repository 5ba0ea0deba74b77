"""Reference pages name everything that the code writes, takes and raises."""

import csv
import json
import re
import tomllib
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from noctile.cli import main
from noctile.pipeline import errors
from noctile.pipeline.columns import (
    FIGURES,
    IDENTITY,
    MEASURES,
    ORIGIN,
    REGION,
    class_columns,
    tile_columns,
)
from noctile.pipeline.models.card import ClassInfo, ModelCard
from noctile.pipeline.patients import tables
from noctile.pipeline.patients.measures import MEASURES as PATIENT_MEASURES
from noctile.pipeline.training.augment import Variation
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.find import DataSource
from noctile.pipeline.truth.split import SplitSpec
from noctile.workflows.engines import base
from noctile.workflows.settings import RunSettings, checked

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def names_in(page: str) -> set[str]:
    """Everything that stands between backticks on a page."""
    return set(re.findall(r"`([^`\n]+)`", text_of(page)))


def first_cells(page: str) -> dict[str, str]:
    """Rows of the page's tables that begin with a name: each name and the rest of its row."""
    rows = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|(.+)\|$", text_of(page), re.MULTILINE)
    return {name: rest for names, rest in rows for name in re.findall(r"`([^`]+)`", names)}


def test_every_column_of_the_tables_is_described(finished_run):
    table = pq.read_table(finished_run / "results" / "slides.parquet")
    general = {
        re.sub(r"^class_(tumor|other)_", "class_<name>_", name) for name in table.column_names
    }
    assert general <= first_cells("results.md").keys()


def plain(cell: str) -> str:
    """Text of a table's cell, without links and code."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", cell).replace("`", "").strip()


@pytest.mark.parametrize(
    "columns",
    [
        [*IDENTITY, *FIGURES, *MEASURES, *class_columns("<name>"), *ORIGIN],
        REGION,
        tile_columns(["<class>"]),
    ],
)
def test_columns_are_described_as_in_their_files(columns):
    lines = re.findall(r"^\|(.+)\|$", text_of("results.md"), re.MULTILINE)
    described = [[plain(cell) for cell in line.split("|")] for line in lines]
    expected = [[c.name, c.type_name, c.unit, c.description] for c in columns]
    assert not [row for row in expected if row not in described]


@pytest.mark.parametrize(
    "name",
    [
        "PATIENTS",
        "GROUPS",
        "TESTS",
        "SURVIVAL",
        "INFLUENCE",
        "EXCLUSIONS",
        "AUDIT",
        "AUDIT_TESTS",
        "ANNOTATED",
        "ANNOTATED_TESTS",
        "ANNOTATED_SLIDES",
    ],
)
def test_columns_of_a_cohort_are_described_as_in_their_files(name):
    lines = re.findall(r"^\|(.+)\|$", text_of("cohort.md"), re.MULTILINE)
    described = [[plain(cell) for cell in line.split("|")] for line in lines]
    measures = [measure.name for measure in PATIENT_MEASURES]
    for column in getattr(tables, name):
        row = [column.name, column.type_name, column.unit, column.description]
        if column.name in measures:
            row.pop(1)
        assert row in described


def test_every_option_of_a_cohort_is_described():
    cohort = main.get_command(click.Context(main), "cohort")
    assert cohort
    given = {max(p.opts, key=len) for p in cohort.params if p.param_type_name == "option"}
    described = {name for cell in names_in("cohort.md") for name in re.findall(r"--[a-z]+", cell)}
    assert given - {"--quiet", "--verbose", "--help", "--log-file"} <= described


def test_every_column_of_the_tiles_is_described(finished_run):
    tiles = pq.read_table(finished_run / "results" / "slides" / "generic" / "tiles.parquet")
    general = {
        re.sub(r"^fraction_(tumor|other)$", "fraction_<class>", name) for name in tiles.column_names
    }
    assert general <= first_cells("results.md").keys()


def test_every_column_of_the_plan_is_described(finished_run, shell):
    shell("noctile plan sample_slides/nearly-blank.svs --out planned", finished_run)
    with (finished_run / "planned" / "plan.csv").open(encoding="utf-8") as lines:
        assert set(next(csv.reader(lines))) <= first_cells("results.md").keys()


def test_every_key_of_a_summary_is_described(finished_run):
    path = finished_run / "results" / "slides" / "generic" / "summary.json"
    assert json.loads(path.read_text()).keys() <= first_cells("results.md").keys()


def test_every_event_of_the_ledger_is_described(finished_run):
    lines = (finished_run / "results" / "ledger.jsonl").read_text().splitlines()
    events = {json.loads(line)["event"] for line in lines}
    assert {"start", "finish"} <= events <= first_cells("results.md").keys()


@pytest.mark.parametrize("command", ["status", "verify", "models"])
def test_every_key_of_a_json_document_is_described_and_no_other(command, finished_run, shell):
    out = "" if command == "models" else "results"
    document = json.loads(shell(f"noctile {command} {out} --json 2>/dev/null", finished_run))
    _, *sections = re.split(r"^## `(\w+)`$", text_of("json.md"), flags=re.MULTILINE)
    section = dict(zip(sections[::2], sections[1::2], strict=True))[command]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    described = set(re.findall(r"`(\w+)`", " ".join(rows) or section.split(" has ")[0]))
    general = {"noctile", "format", "command", "out", "exit_code"}
    assert described == document.keys() - general


def test_every_key_of_the_record_of_a_run_is_described_and_no_other(finished_run):
    (path,) = (finished_run / "results" / "runs").iterdir()
    section = text_of("results.md").split("### `runs/<run id>.json`")[1].split("###")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    record = json.loads(path.read_text())
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == record.keys() | record["usage"].keys()


def test_every_file_of_a_run_is_described(finished_run):
    page = text_of("results.md")
    out = finished_run / "results"
    names = {path.name for path in out.iterdir()} | {
        p.name for p in (out / "slides" / "generic").iterdir()
    }
    assert not [name for name in names if name not in page]


def test_every_flag_of_the_page_is_raised_by_the_code():
    sources = "".join(path.read_text() for path in (ROOT / "pipeline").rglob("*.py"))
    sources += "".join(path.read_text() for path in (ROOT / "workflows").rglob("*.py"))
    flags = re.findall(r"^\| \[`(\w+)`\]", text_of("flags.md"), re.MULTILINE)
    assert len(flags) == 16
    assert not [flag for flag in flags if f'"{flag}"' not in sources]


def test_every_flag_of_the_sample_slides_is_described(finished_run):
    table = pq.read_table(finished_run / "results" / "slides.parquet")
    raised = {flag for flags in table["qc_flags"].to_pylist() for flag in flags}
    assert {"no_tissue", "pen_marks"} <= raised <= names_in("flags.md")


def test_every_reason_code_is_described():
    no_slides = {"slide_error", "storage"}  # the run stops, or finds another reason
    codes = {kind.reason for kind in vars(errors).values() if hasattr(kind, "reason")} - no_slides
    codes |= {base.TIMEOUT, base.OUT_OF_MEMORY, base.WORKER_DIED, "internal_error"}
    assert codes <= first_cells("what-happens.md").keys()


@pytest.mark.parametrize(
    ("page", "kind", "prefix"),
    [
        ("settings.md", RunSettings, ""),
        ("training.md", TrainSettings, ""),
        ("training.md", SplitSpec, "split."),
        ("training.md", Variation, "variation."),
        ("training.md", DataSource, "data."),
        ("model-folder.md", ModelCard, ""),
        ("model-folder.md", ClassInfo, "classes."),
    ],
)
def test_every_setting_is_described_with_its_default(page, kind: type[BaseModel], prefix):
    rows = first_cells(page)
    sections = {"tissue", "split", "variation", "data"}  # their parts are described one by one
    fields = {name: field for name, field in kind.model_fields.items() if name not in sections}
    assert {f"{prefix}{name}" for name in fields} <= rows.keys()
    wrong = [name for name, field in fields.items() if not says(rows[prefix + name], name, field)]
    assert not wrong


def says(row: str, name: str, field: FieldInfo) -> bool:
    """Return True if one cell of a row is the default of a field."""
    shown = [cell.strip().strip("`") for cell in row.split("|")]
    if not isinstance(field.default, bool | int | float | str | None):  # required, or a container
        return True
    if field.default is None:
        return "none" in shown
    default = {"slide_timeout_s": "6h", "min_free_disk_bytes": "2G"}.get(name, field.default)
    if (
        isinstance(default, str) and len(default) > 40
    ):  # a sentence, of which a row has the beginning
        return any(default.startswith(cell.strip('".')) for cell in shown if cell)
    return any(value_of(cell) == default for cell in shown)


def value_of(cell: str) -> object:
    try:
        return tomllib.loads(f"x = {cell}")["x"]
    except tomllib.TOMLDecodeError:
        return cell


def test_the_file_with_all_defaults_has_the_defaults():
    block = re.search(r"```toml[^\n]*\n(.+?)```", text_of("settings.md"), re.DOTALL)
    values = tomllib.loads(block[1])
    assert checked(RunSettings, values) == RunSettings()
    unset = {name for name, field in RunSettings.model_fields.items() if field.default is None}
    assert values.keys() == RunSettings.model_fields.keys() - unset


def test_every_option_of_a_run_is_described():
    run = main.get_command(click.Context(main), "run")
    assert run
    options = {
        max(option.opts, key=len) for option in run.params if option.param_type_name == "option"
    }
    described = names_in("settings.md") | names_in("run.md")
    assert options - {"--out", "--config"} <= described


def test_every_path_to_code_exists():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    tops = "pipeline|workflows|console|recipes|benchmarks|tests"
    paths = {
        (page.name, path)
        for page in pages
        for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    }
    assert len(paths) > 20
    assert not [(page, path) for page, path in paths if not (ROOT / path).exists()]


def test_every_room_is_in_the_architecture_page():
    page = text_of("architecture.md")
    rooms = [
        f"{top}/{path.name}"
        for top in ("pipeline", "workflows")
        for path in sorted((ROOT / top).iterdir())
        if path.is_dir() and not path.name.startswith("_")
    ]
    assert len(rooms) > 10
    assert not [room for room in rooms if f"`{room}/`" not in page]


def headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub and the site make them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", line.lower()).strip() for line in lines)
    return {line.replace(" ", "-") for line in plain}


def test_links_of_the_readme_lead_to_headings():
    links = re.findall(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)", (ROOT / "README.md").read_text())
    assert len(links) > 10
    broken = [
        f"{path}#{anchor}"
        for path, anchor in links
        if not (ROOT / path).exists() or (anchor and anchor not in headings(ROOT / path))
    ]
    assert not broken
