"""Form of the decision records and of the table of results."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
MAX_RECORD_LINES = 40
MAX_RESULTS_LINES = 80

HEADER = re.compile(
    r"# (?P<number>\d{4}) (?P<title>\S.*)\n\n"
    r"- Date: (?P<date>\d{4}-\d{2}-\d{2})\n"
    r"- Status: (?P<status>.+)\n\n"
)
LINK = r"\[\d{4}\]\(\d{4}-[a-z0-9-]+\.md\)"
STATUS = re.compile(rf"accepted(, superseded in part by {LINK}(, {LINK})*)?|superseded by {LINK}")


def header(record: Path) -> re.Match[str]:
    """Number, title, date and status at the top of a record."""
    found = HEADER.match(record.read_text(encoding="utf-8"))
    assert found, f"{record.name} does not begin with '# NNNN Title', '- Date: ' and '- Status: '"
    return found


def local_links(page: Path) -> list[Path]:
    """Files that a page links to by a relative path."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [page.parent / target for target in targets]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name[:4])
class TestRecord:
    def test_starts_with_number_title_date_and_status(self, record):
        found = header(record)
        assert record.name.startswith(f"{found['number']}-")
        assert STATUS.fullmatch(found["status"])

    def test_has_at_most_forty_lines(self, record):
        assert len(record.read_text(encoding="utf-8").splitlines()) <= MAX_RECORD_LINES

    def test_is_superseded_only_by_later_records(self, record):
        found = header(record)
        later = [int(number) for number in re.findall(r"\[(\d{4})\]", found["status"])]
        assert all(number > int(found["number"]) for number in later)

    def test_stands_in_the_index_with_its_title_date_and_status(self, record):
        found = header(record)
        link = f"[{found['number']}]({record.name})"
        row = f"| {link} | {found['title']} | {found['date']} | {found['status']} |"
        assert row in (DECISIONS / "index.md").read_text(encoding="utf-8").splitlines()


def test_record_numbers_are_consecutive_from_one():
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_index_lists_no_record_that_is_missing():
    rows = re.findall(
        r"^\| \[\d{4}\]", (DECISIONS / "index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == len(RECORDS)


def test_results_fit_in_eighty_lines():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    assert len(results.splitlines()) <= MAX_RESULTS_LINES


@pytest.mark.parametrize(
    "folder", ["docs/decisions", "docs/notes", "benchmarks", "benchmarks/history"]
)
def test_links_of_pages_lead_to_files(folder):
    pages = sorted((ROOT / folder).glob("*.md"))
    assert pages
    broken = [
        f"{page.name} -> {link}"
        for page in pages
        for link in local_links(page)
        if not link.exists()
    ]
    assert not broken


def test_commands_of_results_name_files_that_exist():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    modules = [
        f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m ([a-z_.]+)", results)
    ]
    paths = re.findall(r"tests/[a-z_/]+\.py", results)
    assert modules
    assert paths
    assert [path for path in modules + paths if not (ROOT / path).is_file()] == []
