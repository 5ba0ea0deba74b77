"""The viewer's page, driven in Chromium: picture, list, review and keys."""

import csv
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from chromium import chromium
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from standins import threshold_model
from viewer_client import TWO, Client, make_confined_results, make_results, serving

from noctile.pipeline.slides.discover import find_slides
from noctile.workflows.commands.opened import open_results
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.report import Report
from noctile.workflows.results.reviews import Reviews
from noctile.workflows.run.run import run_slides
from noctile.workflows.settings import RunSettings
from noctile.workflows.viewer.file_handlers import STATIC
from noctile.workflows.viewer.listing import Listing

TUMOR, STROMA = (200, 0, 0), (0, 160, 0)
WAIT_S = 15
SIDE = 32
"""Side of a part of the label map (px)."""

BACKSPACE, ENTER, ESCAPE = "\ue003", "\ue007", "\ue00c"
LEFT, RIGHT, DOWN = "\ue012", "\ue014", "\ue015"


@dataclass
class Page:
    """The viewer's page in a browser.

    Attributes:
        driver: driver of the browser.
        client: program that sends requests to the same viewer.
        results: folder of results.
    """

    driver: Any
    client: Client
    results: Path

    def open(self, slide_id: str = "a") -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.client.access.url}#slide={slide_id}")
        self.until(lambda: self.text("slide-name") == slide_id)
        if slide_id == "a":
            self.until(lambda: self.text("scale-text"))

    def until(self, holds: Callable[[], Any]) -> None:
        """Wait until something holds; errors while the page changes count as False."""
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(self.driver, WAIT_S, 0.05, [WebDriverException, OSError])
        wait.until(lambda _: holds())

    def id(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def text(self, name: str) -> str:
        return str(self.id(name).text)

    def script(self, code: str, *values: Any) -> Any:
        return self.driver.execute_script(code, *values)

    def press(self, keys: str) -> None:
        """Press keys with nothing in focus."""
        self.script("document.activeElement.blur()")
        for key in keys:
            self.driver.find_element("tag name", "body").send_keys(key)

    def click(self, x: float, y: float, *, hover: bool = False) -> None:
        """Click, or hover, at a point of the window."""
        actions = self.actions().move_by_offset(0, 0)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        (actions if hover else actions.click()).perform()

    def actions(self) -> Any:
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=0)

    def um_at(self, x: float, y: float) -> tuple[float, float]:
        """Coordinates (um) that the page shows for a point of the window."""
        self.click(x, y, hover=True)
        found = re.findall(r"-?[\d.]+(?= µm)", self.text("coordinates"))
        return float(found[0]), float(found[1])

    def box(self) -> dict[str, float]:
        return dict(self.script("return document.getElementById('osd').getBoundingClientRect()"))

    def um_scale(self) -> tuple[np.ndarray, float]:
        """Window position (px) of the slide's corner, and px of the window per um."""
        box = self.box()
        x, y, w = box["x"], box["y"], box["width"]
        (x0, y0), (x1, _) = self.um_at(x + 20, y + 40), self.um_at(x + w - 20, y + 40)
        ratio = (w - 40) / (x1 - x0)
        return np.array([x + 20 - x0 * ratio, y + 40 - y0 * ratio]), ratio

    def pixels(self) -> np.ndarray:
        """Colours of the window."""
        with Image.open(io.BytesIO(self.driver.get_screenshot_as_png())) as image:
            return np.asarray(image.convert("RGB")).astype(int)

    def colour_at(self, um: tuple[float, float]) -> np.ndarray:
        """Colour of the window at a point of the slide (x, y in um)."""
        corner, ratio = self.um_scale()
        x, y = np.round(corner + np.array(um) * ratio).astype(int)
        return np.asarray(self.pixels()[y, x])

    def shows(self, um: tuple[float, float], colour: tuple[int, int, int], within: int = 6) -> None:
        self.until(lambda: np.abs(self.colour_at(um) - colour).max() <= within)

    def saved(self) -> None:
        self.until(lambda: self.text("saved").startswith("saved"))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return make_results(tmp_path_factory.mktemp("viewed")) / "results"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(browser, results) -> Iterator[Page]:
    """The page of slide a, without reviews of an earlier test; it ends without console errors."""
    shutil.rmtree(results / "review", ignore_errors=True)
    (results / "review.csv").unlink(missing_ok=True)
    with serving(results, "ada", Reviews(ResultsFolder(results))) as client:
        page = Page(browser, client, results)
        page.open()
        yield page
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert errors == []
        browser.get("about:blank")


def patch_of(page: Page, wanted: dict[int, tuple[slice, slice]]) -> tuple[float, float]:
    """Middle (x, y in um) of a part of the label map, with a label in each of its parts."""
    slide = open_results(page.results)["a"]
    windows = sliding_window_view(np.asarray(slide.mask()[:]), (SIDE, SIDE))[::4, ::4]
    fits = [(windows[..., y, x] == label).all((2, 3)) for label, (y, x) in wanted.items()]
    y, x = np.argwhere(np.logical_and.reduce(fits))[0] * 4 + SIDE // 2
    return float(x * slide.frames[0].mpp_x), float(y * slide.frames[0].mpp_y)


def label_patch(page: Page, label: int) -> tuple[float, float]:
    return patch_of(page, {label: (slice(12, -12), slice(12, -12))})


def test_the_mask_lies_on_the_slide(page):
    """At the edge of the analysed part, two pixels of the window to each side."""
    left, right = slice(4, SIDE // 2), slice(SIDE // 2, -4)
    edge_x = patch_of(page, {2: (slice(8, -8), left), 0: (slice(8, -8), right)})
    edge_y = patch_of(page, {2: (left, slice(8, -8)), 0: (right, slice(8, -8))})
    page.press("]]]]]")  # opacity 100 %
    step = 2 / page.um_scale()[1]
    page.shows((edge_x[0] - step, edge_x[1]), STROMA)
    page.shows((edge_y[0], edge_y[1] - step), STROMA)
    assert page.colour_at((edge_x[0] + step, edge_x[1])).min() > 100
    assert page.colour_at((edge_y[0], edge_y[1] + step)).min() > 100
    page.shows(label_patch(page, 1), TUMOR)
    page.shows((5, 5), (243, 243, 243))


def test_classes_opacity_outlines_and_the_whole_mask(page):
    tumor, stroma = label_patch(page, 1), label_patch(page, 2)
    page.press("m")
    page.until(lambda: not page.id("mask-on").is_selected())
    bare = page.colour_at(tumor)
    page.press("m]]]]]")
    page.shows(tumor, TUMOR)
    page.press("1")
    page.shows(tumor, tuple(bare))
    page.shows(stroma, STROMA)
    page.press("c")
    page.shows(tumor, TUMOR)
    page.press("c")
    page.until(lambda: np.abs(page.colour_at(stroma) - STROMA).max() > 20)
    page.shows(tumor, tuple(bare))
    page.press("c[[[[[")
    page.shows(tumor, tuple(np.round((bare + TUMOR) / 2).astype(int)))
    page.press("]]]]]o")
    page.shows(tumor, tuple(bare))
    assert page.id("outline").is_selected()
    page.press("o")
    names = page.text("classes")
    assert "tumor" in names
    assert re.search(r"0\.\d+ mm²", names)


def test_heat_maps_have_a_legend(page):
    tumor = label_patch(page, 1)
    page.press("m")
    page.until(lambda: not page.id("mask-on").is_selected())
    bare = page.colour_at(tumor)
    assert not page.id("legend").is_displayed()
    page.press("t")
    page.until(lambda: np.abs(page.colour_at(tumor) - bare).max() > 30)
    assert page.id("legend").is_displayed()
    page.press("u")
    assert page.id("heat").get_attribute("value") == "confidence"
    page.press("u")
    page.shows(tumor, tuple(bare))


def test_scale_bar_and_coordinates_at_every_zoom(page):
    for keys in ("", "++", "+++", "0"):
        page.press(keys)
        time.sleep(0.6)  # the picture moves for 0.4 s
        _, ratio = page.um_scale()
        bar = page.id("scale-bar").size["width"]
        um = float(page.id("scale").get_attribute("data-um"))
        assert bar / ratio == pytest.approx(um, rel=0.02)
        assert 40 <= bar <= 160
    assert not page.id("notice").is_displayed()
    x_um, _ = page.um_at(page.box()["x"] + 300, page.box()["y"] + 200)
    x_px = int(re.search(r"level 0: (-?\d+)", page.text("coordinates"))[1])
    mpp = page.client.get("api/slides/a").json["level0"]["mpp_x"]
    assert x_px == pytest.approx(x_um / mpp, abs=1)


def test_foci_are_shown_with_their_area(page):
    foci = page.client.get("api/slides/a/foci").json
    page.press("g")
    page.until(lambda: page.text("focus").startswith(f"Focus 1 of {len(foci)}, "))
    shown = float(re.search(r"([\d.]+) mm²", page.text("focus"))[1])
    assert shown == pytest.approx(foci[0]["area_mm2"], rel=1e-3)
    page.press("n")
    page.until(lambda: page.text("focus").startswith(f"Focus {1 + 1 % len(foci)} of"))
    page.press("p")
    page.until(lambda: page.text("focus").startswith("Focus 1 of"))
    time.sleep(0.6)
    corner, ratio = page.um_scale()
    mpp, box = page.client.get("api/slides/a").json["level0"]["mpp_x"], page.box()
    middle = (foci[0]["x"] + foci[0]["width"] / 2) * mpp * ratio + corner[0]
    assert middle == pytest.approx(box["x"] + box["width"] / 2, abs=4)


def test_a_failed_slide_shows_its_reason(page):
    page.press("j")
    page.until(lambda: page.text("slide-name") == "broken")
    assert "unopenable" in page.text("problem")
    row = page.client.get("api/slides").json["slides"][1]
    assert row["message"] in page.text("problem")
    page.press("k")
    page.until(lambda: page.text("slide-name") == "a")
    assert "tumor" in page.text("figures")


def test_a_status_and_a_note_are_saved(page):
    page.press("r")
    page.saved()
    page.press("e")
    note = 'a fold, "quoted" <b>bold</b>\nline'
    page.id("note").send_keys(note)
    page.until(lambda: page.text("saved") == "not saved yet")
    page.saved()
    with (page.results / "review.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["slide_id"], r["reviewer"], r["status"], r["note"]) for r in rows] == [
        ("a", "ada", "rejected", note)
    ]
    assert "rejected" in page.text("slide-0")
    page.open()
    assert page.id("note").get_attribute("value") == note


def draw_region(page: Page) -> list[list[float]]:
    """Draw a triangle of a fold by clicks; return its corners (um)."""
    page.script("document.getElementById('reason').value = 'fold'")
    page.press("d")
    box, points = page.box(), []
    for dx, dy in ((200, 200), (400, 220), (300, 420)):
        x, y = box["x"] + dx, box["y"] + dy
        points.append(list(page.um_at(x, y)))
        page.click(x, y)
        time.sleep(0.4)  # two clicks in a short time are a double click
    page.press(ENTER)
    page.saved()
    return points


def test_a_region_is_saved_where_it_was_drawn(page):
    points = draw_region(page)
    path = page.results / "review" / "a.geojson"
    feature = json.loads(path.read_text(encoding="utf-8"))["features"][0]
    mpp = page.client.get("api/slides/a").json["level0"]["mpp_x"]
    drawn = np.array(feature["geometry"]["coordinates"][0][:3]) * mpp
    assert drawn == pytest.approx(np.array(points), abs=1.5 * mpp)
    assert feature["properties"]["classification"]["name"] == "fold"
    assert feature["properties"]["metadata"]["reviewer"] == "ada"
    assert page.script("return document.querySelectorAll('#shapes .own').length") == 1
    page.id("region-list").find_element("xpath", ".//button[text()='Delete']").click()
    page.until(lambda: json.loads(path.read_text(encoding="utf-8"))["features"] == [])


def test_a_region_is_drawn_by_keys_alone(page):
    page.press("d ")
    for keys in (f"{RIGHT} ", f"{DOWN} ", f"{LEFT} ", BACKSPACE, ENTER):
        page.press(keys)
        time.sleep(0.5)
    page.saved()
    path = page.results / "review" / "a.geojson"
    feature = json.loads(path.read_text(encoding="utf-8"))["features"][0]
    assert len(feature["geometry"]["coordinates"][0]) == 4


def test_reviews_of_others_are_shown_and_stay(page):
    draw_region(page)
    with serving(page.results, "ben", Reviews(ResultsFolder(page.results))) as client:
        other = Page(page.driver, client, page.results)
        other.open()
        assert "by ada" in other.text("region-list")
        assert "Delete" not in other.text("region-list")
        other.press("l")
        other.saved()
        assert other.script("return document.querySelectorAll('#shapes .other').length") == 1
    page.open()
    page.press("a")
    page.saved()
    assert "ben, look again" in page.text("others")
    assert "disagreement" in page.text("slide-0")


def test_a_conflict_keeps_the_text(page):
    version = page.client.get("api/slides/a").json["review"]["version"]
    newer = {"status": "accepted", "note": "from elsewhere", "version": version}
    assert page.client.put("api/slides/a/review", newer).status == 200
    page.id("note").send_keys("my text")
    page.until(lambda: "from elsewhere" in page.text("conflict"))
    assert page.id("note").get_attribute("value") == "my text"
    page.driver.get_log("browser")  # Chromium reports the 409
    page.id("keep-mine").click()
    page.saved()
    rows = page.client.get("api/slides/a").json["review"]["reviews"]
    assert [row["note"] for row in rows] == ["my text"]


def test_a_save_that_fails_is_tried_again_and_survives_a_reload(page):
    (page.results / "review.csv").mkdir()
    page.id("note").send_keys("typed")
    page.until(lambda: page.text("saved").startswith("Not saved"))
    assert page.id("retry").is_displayed()
    (page.results / "review.csv").rmdir()
    page.driver.refresh()
    page.until(lambda: page.id("note").get_attribute("value") == "typed")
    page.saved()
    assert "typed" in (page.results / "review.csv").read_text(encoding="utf-8")
    page.driver.get_log("browser")  # Chromium reports the 400


def test_a_picture_that_cannot_be_loaded_is_named(page):
    assert not page.id("notice").is_displayed()
    (page.results / "slides" / "a" / "summary.json").touch()  # as if the slide had been run again
    page.press("1")
    page.until(lambda: "Load this page again" in page.text("notice"))
    page.driver.get_log("browser")  # Chromium reports the 410


@pytest.mark.parametrize("count", [1000])
def test_a_long_list_is_fast(page, monkeypatch, count):
    """1,000 rows: few of them are in the page; search and filters answer at once."""
    rows = Listing(open_results(page.results)).rows()
    many = {f"s{k:04}": {**rows["broken"], "slide_id": f"s{k:04}"} for k in range(count)}
    hostile = "<img src=x onerror=alert(1)>"
    many["s0007"]["message"] = hostile
    monkeypatch.setattr(Listing, "rows", lambda _: rows | many)
    page.open()
    assert page.text("count") == f"{count + 2} of {count + 2} slides"
    assert page.script("return document.querySelectorAll('.slide').length") < 60
    took = page.script(
        "const box = document.getElementById('list'), begin = performance.now();"
        "for (let k = 0; k < 20; k++) {"
        " box.scrollTop = k * 1500; box.dispatchEvent(new Event('scroll')); box.offsetHeight; }"
        "return (performance.now() - begin) / 20"
    )
    assert took < 50  # ms
    page.press("/")
    page.id("search").send_keys("S0007")
    page.until(lambda: page.text("count").startswith("1 of"))
    page.press("j")
    page.until(lambda: hostile in page.text("problem"))
    page.id("search").clear()
    page.id("search").send_keys(" ")
    page.script(
        "const s = document.getElementById('filter-status'); s.value = 'done';"
        "s.dispatchEvent(new Event('change'))"
    )
    page.until(lambda: page.text("count").startswith("1 of"))
    page.script(
        "const s = document.getElementById('filter-status'); s.value = '';"
        "s.dispatchEvent(new Event('change'))"
    )
    page.id("list").send_keys(DOWN)
    page.until(lambda: page.text("slide-name") != "s0007")


@pytest.mark.parametrize("width", [500, 1280])
def test_the_page_fits_and_is_accessible(page, width):
    """Nothing beyond the edge; axe finds no serious fault, also in the help."""
    page.driver.set_window_size(width, 900)
    try:
        page.press("t")
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        page.until(lambda: page.script(f"return {wide}") == 0)
        if axe := os.environ.get("NOCTILE_AXE"):
            page.script(Path(axe).read_text(encoding="utf-8"))
            for _ in range(2):
                run = "axe.run().then(arguments[0])"
                found = page.driver.execute_async_script(run)["violations"]
                assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
                page.press("?")
        else:
            page.press("?")
        assert page.id("help").is_displayed()
        page.press(ESCAPE)
        page.until(lambda: not page.id("help").is_displayed())
    finally:
        page.driver.set_window_size(1280, 900)


DARK, PINK = (120, 10, 130), (214, 150, 190)
NEST = (340, 560, 480, 720)
"""Rows and columns (level-0 px) of the dark part of the slide whose pixels are not square."""

MPP_YX = (0.5, 0.7)
BOUNDS_YX = (3000, 4001)


@pytest.fixture(scope="module")
def stretched(tmp_path_factory) -> Path:
    """Results of a slide with pixels of 0.5 x 0.7 um; its scanned region begins at `BOUNDS_YX`."""
    folder = tmp_path_factory.mktemp("stretched")
    pixels = np.full((900, 1200, 3), 243, np.uint8)
    pixels[150:750, 200:1000] = PINK
    pixels[NEST[0] : NEST[1], NEST[2] : NEST[3]] = DARK
    about = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate", "metadata": None}
    tifffile.imwrite(folder / "a.tif", pixels, **about)
    model = threshold_model(folder / "model")
    settings = RunSettings(model=str(model), engine="serial", block_px=480, device="cpu")
    (entry,) = find_slides([folder / "a.tif"], None, None).slides
    run_slides([replace(entry, mpp=MPP_YX)], settings, folder / "results", lambda *_: None)
    slide = ResultsFolder(folder / "results").slide("a")
    summary = json.loads(slide.summary.read_text())
    summary["bounds_px"][:2] = BOUNDS_YX
    write_with_checksums(slide, summary)
    return folder / "results"


def part_of(page: Page, colour: tuple[int, int, int]) -> np.ndarray:
    """Edges (top, bottom, left, right; px of the window) of the part that has a colour."""
    box, pixels = page.box(), page.pixels()
    fits = np.abs(pixels - colour).max(-1) <= 40
    top, left = round(box["y"]), round(box["x"])
    fits = fits[top : top + round(box["height"]), left : left + round(box["width"])]
    rows, columns = (np.flatnonzero(fits.sum(axis) > 50) for axis in (1, 0))
    found = rows[0] + top, rows[-1] + 1 + top, columns[0] + left, columns[-1] + 1 + left
    return np.array(found)


@pytest.mark.parametrize("zoom", ["", "++"])
def test_pixels_that_are_not_square_lie_under_their_mask(browser, stretched, zoom):
    """Slide, mask and coordinates agree to a pixel of the label map, at two zooms."""
    with serving(stretched) as client:
        page = Page(browser, client, stretched)
        page.open()
        page.press(f"]]]]]{zoom}")  # opacity 100 %
        time.sleep(0.6)  # the picture moves for 0.4 s
        page.until(lambda: len(part_of(page, TUMOR)) == 4)
        mask = part_of(page, TUMOR)
        page.press("m")
        page.until(lambda: not page.id("mask-on").is_selected())
        page.until(lambda: len(part_of(page, DARK)) == 4)
        slide = part_of(page, DARK)
        (x0, y0), ratio = page.um_scale()
        um = np.array(NEST) * np.repeat(MPP_YX, 2)
        expected = um * ratio + (y0, y0, x0, x0)
        browser.get("about:blank")
    pixel = max(1.5, 0.7 * ratio)  # the larger of a pixel of the window and one of the slide
    assert slide == pytest.approx(expected, abs=pixel + 1)  # coordinates are shown with 0.1 um
    assert mask == pytest.approx(slide, abs=pixel)


def test_level_0_coordinates_begin_at_the_bounds(browser, stretched):
    with serving(stretched) as client:
        page = Page(browser, client, stretched)
        page.open()
        box = page.box()
        x_um, y_um = page.um_at(box["x"] + 300, box["y"] + 200)
        found = re.search(r"level 0: (-?\d+), (-?\d+) px", page.text("coordinates"))
        browser.get("about:blank")
    expected = x_um / MPP_YX[1] + BOUNDS_YX[1], y_um / MPP_YX[0] + BOUNDS_YX[0]
    assert [int(text) for text in found.groups()] == pytest.approx(expected, abs=1)


@pytest.fixture(scope="module")
def confined(tmp_path_factory) -> Path:
    return make_confined_results(tmp_path_factory.mktemp("confined"))


def outline_um(page: Page, place: int) -> np.ndarray:
    """Box of a path among the outlines (x, y, width, height; um); each has a halo before it."""
    code = "return document.querySelector(`#outline-paths path:nth-child(${arguments[0]})`)"
    box = page.script(f"{code}.getBoundingClientRect().toJSON()", place)
    corner, ratio = page.um_scale()
    x, y = (np.array([box["x"], box["y"]]) - corner) / ratio
    return np.array([x, y, box["width"] / ratio, box["height"] / ratio])


def test_regions_of_interest_lie_on_the_slide_and_can_be_switched_off(browser, confined):
    """Each outline has its box, at two zooms; the hole is a part of it, and the name is text."""
    with serving(confined) as client:
        page = Page(browser, client, confined)
        page.open()
        shown = page.text("confined")
        assert "All areas and figures are confined to 2 regions of interest." in shown
        assert TWO in shown
        assert page.text("confined-here") == "confined to 2 regions of interest"
        for keys in ("", "++"):
            page.press(keys)
            time.sleep(0.6)  # the picture moves for 0.4 s
            assert outline_um(page, 2) == pytest.approx([50, 60, 350, 450], abs=4)
            assert outline_um(page, 4) == pytest.approx([450, 100, 200, 350], abs=4)
        names = (
            "return [...document.querySelectorAll('#outline-names text')].map(t => t.textContent)"
        )
        assert page.script(names) == ["bed", TWO[:39] + "…", "Ignore*"]
        more = "for (let k = 0; k < 500; k++) list.append(list.children[0].cloneNode(true))"
        page.script(f"const list = document.getElementById('confined-list'); {more}")
        assert page.id("confined-list").size["height"] < 500  # other panels stay in reach
        page.press("0")
        time.sleep(0.6)
        hole_edge = (150.0, 250.0)
        page.until(lambda: page.colour_at(hole_edge)[2] > page.colour_at(hole_edge)[0] + 60)
        page.press("i")
        page.until(lambda: not page.id("regions-on").is_selected())
        page.until(lambda: page.colour_at(hole_edge)[2] <= page.colour_at(hole_edge)[0] + 60)
        assert not page.id("outlines").is_displayed()
        page.press("j")
        page.until(lambda: "confined to a given tissue mask." in page.text("confined"))
        page.press("i")
        page.until(lambda: outline_um(page, 2) == pytest.approx([200, 150, 300, 400], abs=4))
        page.press("j")
        page.until(lambda: page.text("slide-name") == "c" and page.text("scale-text"))
        assert not page.id("confined").is_displayed()
        assert page.script(names) == []
        browser.get("about:blank")


def test_links_of_the_report_lead_to_their_slides(page):
    """The report behind the viewer's address; its links open the slide in the viewer."""
    assert Report(ResultsFolder(page.results)).write() == ""
    url = page.client.access.url
    page.driver.get(f"{url}report/index.html")
    assert not page.id("how-to-view").is_displayed()
    links = page.driver.find_elements("css selector", "#slides a.open")
    assert [link.get_attribute("href") for link in links] == [f"{url}#slide=a"]
    loaded = "return [...document.images].map((image) => image.naturalWidth > 0)"
    page.until(lambda: all(page.script(loaded)))
    href = links[0].get_attribute("href")
    links[0].click()  # opens another window
    page.until(lambda: len(page.driver.window_handles) == 2)
    first, second = page.driver.window_handles
    page.driver.switch_to.window(second)
    try:
        page.until(lambda: page.text("slide-name") == "a")
        assert page.driver.current_url == href
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)


def keys_of_the_code() -> dict[str, str]:
    text = (STATIC / "keys.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  \["([^"]+)", "[^"]+", "([^"]+)"\],$', text, re.MULTILINE))


def test_the_documentation_has_the_keys():
    docs = Path(__file__).parents[2] / "docs" / "viewer.md"
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", docs.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == keys_of_the_code()


def test_every_key_has_an_action():
    code = (STATIC / "viewer.js").read_text(encoding="utf-8")
    table = code[code.index("const ACTIONS") :]
    keys = (STATIC / "keys.js").read_text(encoding="utf-8")
    actions = re.findall(r'^  \["[^"]+", "([^"]+)", ', keys, re.MULTILINE)
    assert len(actions) == len(keys_of_the_code()) > 20
    for action in actions:
        assert re.search(rf'^  "?{action}"?: ', table, re.MULTILINE), action


def test_no_script_sets_html_and_nothing_comes_from_elsewhere():
    for path in STATIC.iterdir():
        if path.suffix in (".js", ".html", ".css") and "openseadragon" not in path.name:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", text), path.name
            hosts = set(re.findall(r"https?://[^\"'\s]+", text)) - {"http://www.w3.org/2000/svg"}
            assert hosts == set(), path.name
    page = (STATIC / "viewer.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son[a-z]+=", page)
