"""The page of an audit, driven in Chromium by keys."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from viewer_client import Client, make_results, serving

from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.results.audits import Audits
from noctile.workflows.viewer.audit_server import audit_application

WAIT_S = 15
BACKSPACE = "\ue003"


@dataclass
class Page:
    """The page of an audit in a browser.

    Attributes:
        driver: driver of the browser.
        client: program that sends requests to the same viewer.
        audits: the audit.
    """

    driver: Any
    client: Client
    audits: Audits

    def open(self) -> None:
        self.driver.get("about:blank")
        self.driver.get(self.client.access.url)
        self.shown()

    def shown(self) -> None:
        """Wait until a point is shown."""
        self.until(lambda: self.text("scale-text"))

    def until(self, holds: Callable[[], Any]) -> None:
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, WAIT_S, 0.05, [WebDriverException]).until(lambda _: holds())

    def text(self, name: str) -> str:
        return str(self.driver.find_element("id", name).text)

    def script(self, code: str) -> Any:
        return self.driver.execute_script(code)

    def press(self, key: str) -> None:
        self.driver.find_element("tag name", "body").send_keys(key)

    def answer(self, key: str, given: int) -> None:
        """Press the key of an answer, and wait until the next point is shown."""
        self.press(key)
        self.until(lambda: self.text("progress").startswith(f"{given} of 20"))
        self.shown()

    def given(self, reader: str) -> dict[str, str]:
        return {a.point_id: a.answer for a in self.audits.answers() if a.reader == reader}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return make_results(tmp_path_factory.mktemp("audited")) / "results"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    with chromium() as driver:
        yield driver


@contextmanager
def page_of(browser: Any, results: Path, reader: str) -> Iterator[Page]:
    with serving(results, reader, None, audit_application) as client:
        page = Page(browser, client, open_audit(results, AuditRequest()))
        page.open()
        yield page
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []
        browser.get("about:blank")


@pytest.fixture
def page(browser, results) -> Iterator[Page]:
    shutil.rmtree(results / "audit", ignore_errors=True)
    open_audit(results, AuditRequest(points=20))
    with page_of(browser, results, "ada") as page:
        yield page


def test_keys_answer_and_the_reader_continues_where_she_was(page):
    order = page.client.get("api/audit").json["points"]
    names = page.audits.design().class_names
    page.answer("1", 1)
    page.answer("2", 2)
    page.answer("u", 3)
    page.answer("x", 4)
    page.press("s")
    page.shown()
    page.answer("1", 5)
    expected = dict(zip(order, [names[0], names[1], "unsure", "unreadable"], strict=False))
    assert page.given("ada") == expected | {order[5]: names[0]}
    page.open()
    assert page.text("progress") == "5 of 20"
    page.answer("2", 6)
    assert page.given("ada")[order[4]] == names[1]  # the one that was skipped


def test_back_corrects_an_answer(page):
    order, names = page.client.get("api/audit").json["points"], page.audits.design().class_names
    page.answer("1", 1)
    page.press(BACKSPACE)
    pressed = "#classes button[aria-pressed=true]"
    page.until(lambda: page.driver.find_element("css selector", pressed).text.endswith(names[0]))
    page.shown()
    page.press("2")
    page.until(lambda: page.given("ada") == {order[0]: names[1]})
    page.until(lambda: not page.driver.find_elements("css selector", pressed))
    assert page.text("progress") == "1 of 20"


def test_two_readers_do_not_mix(page, browser, results):
    page.answer("1", 1)
    with page_of(browser, results, "ben") as other:
        assert other.text("progress") == "0 of 20"
        other.answer("2", 1)
        assert [len(other.given(name)) for name in ("ada", "ben")] == [1, 1]
    page.open()
    assert page.text("progress") == "1 of 20"


def test_the_point_is_in_the_middle_at_the_stated_zoom(page):
    """The ring's bounds in the window, and the width of the scale bar."""
    box = "const b = (id) => document.getElementById(id).getBoundingClientRect();"
    code = box + (
        "const r = document.querySelector('#shapes polygon').getBoundingClientRect(), o = b('osd');"
        "return [r.x + r.width / 2 - o.x - o.width / 2, r.y + r.height / 2 - o.y - o.height / 2,"
        " r.width / 20, b('scale-bar').width / Number(document.getElementById('scale').dataset.um)]"
    )

    def is_home() -> bool:
        dx, dy, ring, bar = page.script(code)
        px_per_um = 1 / page.client.get("api/audit").json["mpp"]
        return (
            max(abs(dx), abs(dy)) < 1.5
            and ring == pytest.approx(px_per_um, rel=0.1)
            and bar == pytest.approx(px_per_um, rel=0.02)
        )

    page.until(is_home)
    page.press("+")
    page.until(lambda: not is_home())
    page.press("0")
    page.until(is_home)


def test_a_click_answers_and_no_mask_is_loaded(page):
    page.driver.find_element("css selector", "#others button").click()
    page.until(lambda: page.text("progress").startswith("1 of"))
    page.shown()
    assert list(page.given("ada").values()) == ["unsure"]
    names = page.script("return performance.getEntriesByType('resource').map((e) => e.name)")
    names = [name for name in names if name[:4] == "http" and not name.endswith("/favicon.ico")]
    loaded = [name.removeprefix(page.client.access.url) for name in names]
    assert {name.split("/")[0] for name in loaded} == {"static", "api", "tiles"}
    assert all("/slide/" in name for name in loaded if name.startswith("tiles/"))


def test_points_of_a_slide_that_has_gone_are_passed_over(page, results):
    slide = results.parent / "slides" / "a.tif"
    slide.rename(away := slide.with_suffix(".away"))
    try:
        page.driver.refresh()
        page.until(lambda: "20 cannot be shown" in page.text("progress"))
        assert "There is no file" in page.text("notice")
        page.press("1")
        assert page.given("ada") == {}
    finally:
        away.rename(slide)
    page.open()
    page.driver.get_log("browser")  # Chromium reports tiles that were on their way
    page.answer("1", 1)


def test_an_answer_that_is_not_saved_stays_on_the_page(page, results):
    (results / "audit" / "answers.csv").mkdir()
    page.press("1")
    page.until(lambda: page.text("saved").startswith("Not saved"))
    (results / "audit" / "answers.csv").rmdir()
    page.driver.get_log("browser")  # Chromium reports the 400
    page.answer("1", 1)


@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_fits_and_is_accessible(page, width):
    """Nothing beyond the edge; axe finds no serious fault."""
    page.driver.set_window_size(width, 900)
    try:
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        page.until(lambda: page.script(f"return {wide}") == 0)
        if axe := os.environ.get("NOCTILE_AXE"):
            page.script(Path(axe).read_text(encoding="utf-8"))
            found = page.driver.execute_async_script("axe.run().then(arguments[0])")["violations"]
            assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    finally:
        page.driver.set_window_size(1280, 900)
