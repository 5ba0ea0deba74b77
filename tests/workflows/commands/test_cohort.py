"""``noctile cohort``: files, options, exit codes, the same bytes again, a stranger's path."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from cohort_results import (
    failed_row,
    planted_clinical,
    planted_rows,
    slide_row,
    write_clinical,
    write_results,
)
from label_results import write_result
from PIL import Image
from scipy import stats

from noctile.cli import main
from noctile.pipeline.csv_cells import unescape_cell
from noctile.workflows.commands.audit import AuditRequest, open_audit

HOSTILE = '=HYPERLINK("x")</td><script>alert(1)</script>'
TABLES = ("patients", "groups", "tests", "survival", "influence", "exclusions")


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["cohort", *map(str, words)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """Results of 40 planted patients, and a clinical table."""
    path = tmp_path_factory.mktemp("cohort")
    rows = [*planted_rows(40), failed_row("f1"), failed_row("f2", "mpp_missing", "p0001")]
    write_results(path / "results", rows)
    write_clinical(path / "clinical.csv", planted_clinical(40))
    return path


@pytest.fixture(scope="module")
def made(planted) -> tuple[Path, str]:
    """Folder of the cohort, and the lines that were printed."""
    out = planted / "out"
    words = ("--clinical", planted / "clinical.csv", "--by", "subtype", "--out", out)
    survival = ("--time", "os_months", "--event", "os_event", "--cut", "tumor_area_mm2=60")
    code, text = call(planted / "results", *words, *survival)
    assert code == 0, text
    return out, text


def test_every_file_is_written(made):
    out, text = made
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    expected = {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")}
    expected |= {"cohort.html", "cohort.json", "columns.json", "flow.svg", "methods.md"}
    assert expected <= names
    assert {f"plots/tumor_foci.{kind}" for kind in ("svg", "png")} <= names
    assert f"{out / 'cohort.html'}: 40 of 41 patients" in text


def test_csv_and_parquet_hold_the_same(made):
    out, _ = made
    columns = json.loads((out / "columns.json").read_text())
    assert columns.keys() == set(TABLES)
    for name in TABLES:
        table = pq.read_table(out / f"{name}.parquet")
        with (out / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == table.column_names == [column["name"] for column in columns[name]]
        assert len(rows) == table.num_rows


def test_tests_follow_from_the_table_of_patients(made):
    out, _ = made
    patients = pd.read_parquet(out / "patients.parquet")
    tests = pd.read_parquet(out / "tests.parquet")
    row = tests[(tests["family"] == "by") & (tests["subset"] == "all")].iloc[1]
    kept = patients[patients["excluded"].isna()]
    a, b = (kept.loc[kept["by"] == name, row["measure"]] for name in "ab")
    assert row["p"] == pytest.approx(stats.mannwhitneyu(a, b).pvalue)


def test_the_same_call_writes_the_same_bytes(planted, made):
    again = planted / "again"
    words = ("--clinical", planted / "clinical.csv", "--by", "subtype", "--out", again)
    survival = ("--time", "os_months", "--event", "os_event", "--cut", "tumor_area_mm2=60")
    assert call(planted / "results", *words, *survival)[0] == 0
    for path in made[0].rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(made[0])).read_bytes(), path


def test_json_describes_the_answer(planted, tmp_path):
    words = ("--clinical", planted / "clinical.csv", "--by", "age", "--out", tmp_path / "o")
    code, text = call(planted / "results", *words, "--json")
    document = json.loads(text[text.index("{") :])
    assert (code, document["exit_code"]) == (0, 0)
    assert document["flow"]["submitted"]["patients"] == 41
    assert "not_audited" in {limit["code"] for limit in document["limits"]}
    assert "cohort.html" in document["files"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--clinical", "clinical.csv"), "Name one with --by"),
        (("--clinical", "nowhere.csv"), "cannot be read"),
        (("--by", "subtype"), "no clinical table and no manifest has this column"),
        (("--patient", "x"), "name it with --clinical"),
        (("--clinical", "clinical.csv", "--by", "subtype", "--cut", "x=1"), "no measure"),
        (("--clinical", "clinical.csv", "--time", "os_months"), "belong together"),
    ],
)
def test_wrong_calls_are_refused(planted, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(planted)
    code, text = call("results", *words, "--out", tmp_path / "o")
    assert (code, message in text) == (2, True), text
    assert not (tmp_path / "o").exists()


def test_no_results_and_foreign_folders_are_refused(planted, tmp_path):
    assert call(tmp_path, "--out", tmp_path / "o")[0] == 2
    (tmp_path / "mine.txt").write_text("mine")
    code, text = call(planted / "results", "--out", tmp_path)
    assert (code, "did not write" in text) == (2, True)


def test_hostile_names_are_escaped_everywhere(tmp_path):
    rows = [slide_row(f"s{k}", k + 1, patient=f"{HOSTILE}{k}") for k in range(12)]
    rows.append(failed_row("f", HOSTILE))
    results = write_results(tmp_path / "results", rows)
    with (tmp_path / "c.csv").open("w", newline="", encoding="utf-8") as file:
        lines = [[f"{HOSTILE}{k}", HOSTILE if k % 2 else "b"] for k in range(12)]
        csv.writer(file).writerows([["patient_id", HOSTILE], *lines])
    out = tmp_path / "out"
    code, text = call(results, "--clinical", tmp_path / "c.csv", "--out", out)
    assert code == 0, text
    for path in (out / "cohort.html", *out.rglob("*.svg"), out / "methods.md"):
        content = path.read_text(encoding="utf-8")
        assert "<script>" not in content, path
    with (out / "patients.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["patient_id"] for row in csv.DictReader(file)]
    assert all(cell.startswith("'=") for cell in cells if "HYPER" in cell)
    assert unescape_cell(cells[1]).startswith(HOSTILE)


def test_a_cohort_inside_the_results_disturbs_nothing(planted):
    from noctile.workflows.commands.opened import open_results

    out = planted / "results" / "cohort"
    assert call(planted / "results", "--out", out)[0] == 0
    assert len(open_results(planted / "results").table()) > 40


def test_a_stranger_needs_two_columns(tmp_path):
    """Results with label maps as a run writes them, a CSV of two columns, and no other option."""
    random = np.random.default_rng(0)
    lines = ["slide_id,subtype"]
    for k in range(10):
        share = 0.2 + 0.05 * k
        labels = np.where(random.random((96, 96)) < share, 1, 2).astype(np.uint8)
        folder = write_result(tmp_path / "results", labels, f"s{k}")
        Image.new("RGB", (8, 8)).save(folder / "preview.jpg")
        lines.append(f"s{k},{'low' if k < 5 else 'high'}")
    table = tmp_path / "two.csv"
    table.write_text("\n".join(lines))
    code, text = call(tmp_path / "results", "--clinical", table, "--out", tmp_path / "cohort")
    assert code == 0, text
    assert "nothing names the patient of 10 slides" in text
    assert "Tumor fraction tends to be larger in high than in low" in text
    page = (tmp_path / "cohort" / "cohort.html").read_text(encoding="utf-8")
    assert "You may not conclude more" in page
    assert 'data-code="patients_not_named"' in page


def test_an_audit_corrects_the_areas(tmp_path):
    """The model calls half of the tissue tumor; the reader finds tumor in half of that."""
    results, lines = tmp_path / "results", ["slide_id,subtype"]
    labels = np.ones((96, 96), np.uint8)
    labels[:, 48:] = 2
    for k in range(10):
        write_result(results, labels, f"s{k}", mpp=8.0, native_mpp=8.0)
        lines.append(f"s{k},{'ab'[k % 2]}")
    (tmp_path / "two.csv").write_text("\n".join(lines))
    words = ("--clinical", tmp_path / "two.csv", "--audit", "--out", tmp_path / "cohort")
    code, text = call(results, *words)
    assert (code, "has no audit" in text) == (2, True)
    audits = open_audit(results, AuditRequest(points=100))
    answers = {}
    for k, point in enumerate(audits.points()):
        wrong = point.stratum == "tumor" and k % 2
        answers[point.point_id] = "stroma" if wrong else point.stratum
    audits.save("ann", answers)
    audits.save("ben", dict(list(answers.items())[:40]) | {"p001": "unsure"})
    code, text = call(results, *words)
    assert code == 0, text
    rows = pd.read_csv(tmp_path / "cohort" / "audit.csv").set_index(["group", "class"])
    whole = rows[rows.index.get_level_values("group").isna()].droplevel("group").loc["tumor"]
    predicted, corrected = whole["predicted_mm2"], whole["area_mm2"]
    assert predicted == pytest.approx(10 * 96 * 48 * 64e-6)
    assert corrected == pytest.approx(predicted / 2, rel=0.35)
    assert whole["area_low_mm2"] < corrected < whole["area_high_mm2"] < predicted
    assert len(rows) == 6
    page = (tmp_path / "cohort" / "cohort.html").read_text(encoding="utf-8")
    assert "Areas corrected by the audit" in page
    assert f'<td class="n">{whole["further_points"]:.0f}</td>' in page
    assert "noctile audit RESULTS --status --half-width 10<" in page
    assert 'data-code="audited"' in page
    methods = (tmp_path / "cohort" / "methods.md").read_text(encoding="utf-8")
    for part in (
        "100 points. They were drawn at random from 10 slides, stratified by predicted class, at "
        "least 20 um apart (seed 0), and shown to 2 readers",
        "kappa of two readers: 1.00",
        "99 got a class, 1 were unsure and 0 unreadable",
        "correction for 2 comparisons",
    ):
        assert part in methods, part
    assert "in turn" not in methods
    open_audit(results, AuditRequest(points=120))
    assert call(results, *words)[0] == 0
    methods = (tmp_path / "cohort" / "methods.md").read_text(encoding="utf-8")
    assert "in turn: 100 points at first, then 120 in all" in methods
