"""The page of a cohort in Chromium: widths, console, faults of accessibility, print."""

import os
from pathlib import Path

import pytest
from chromium import chromium
from click.testing import CliRunner
from cohort_results import failed_row, planted_clinical, planted_rows, write_clinical, write_results

from noctile.cli import main

WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
SCRIPT = "</td><script>document.title = 'run'</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a planted cohort with survival and hostile names; the console stays empty."""
    path = tmp_path_factory.mktemp("cohort")
    write_results(path / "results", [*planted_rows(60), failed_row("f", SCRIPT)])
    rows = [{**row, "subtype": row["subtype"] * 40} for row in planted_clinical(58)]
    write_clinical(path / "clinical.csv", rows)
    words = [
        "--clinical",
        str(path / "clinical.csv"),
        "--by",
        "subtype",
        "--out",
        str(path / "cohort"),
    ]
    words += ["--time", "os_months", "--event", "os_event"]
    done = CliRunner().invoke(main, ["cohort", str(path / "results"), *words])
    assert done.exit_code == 0, done.output
    with chromium() as driver:
        driver.get((path / "cohort" / "cohort.html").as_uri())
        yield driver
        assert driver.get_log("browser") == []
        assert driver.title == "Cohort: results"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_and_has_no_serious_fault(page, width):
    page.set_window_size(width, 900)
    assert page.execute_script(WIDE) == 0
    assert len(page.find_elements("css selector", "script")) == 0
    if axe := os.environ.get("NOCTILE_AXE"):
        page.execute_script(Path(axe).read_text(encoding="utf-8"))
        found = page.execute_async_script("axe.run().then(arguments[0])")["violations"]
        faults = [
            (v["id"], v["nodes"][0]["html"][:200])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert faults == []


def test_all_pictures_are_shown(page):
    images = "return [...document.images].map(image => image.naturalWidth)"
    assert min(page.execute_script(images)) > 400


def test_the_answer_comes_first(page):
    first = page.find_element("css selector", ".answer").text
    assert first.startswith("Tumor fraction tends to be larger")
    assert page.find_element("css selector", "[data-code=not_audited]").is_displayed()
