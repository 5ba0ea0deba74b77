"""Page of a comparison."""

import os
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from chromium import chromium
from PIL import Image

from noctile.pipeline.report.diff_page import Comparison, class_totals, diff_page, tumor_limits

SCRIPT = "<script>alert('x')</script>"


def row(slide_id: str, a: float, b: float, **values) -> dict:
    figures = {"area_a_mm2": a, "area_b_mm2": b, "dice": 0.5 if a else None}
    return {
        "slide_id": slide_id,
        "slide_id_a": slide_id,
        "slide_id_b": slide_id,
        "patient_id": None,
        "status": "compared",
        "matched_by": "content",
        "message": "",
        "tumor_area_a_mm2": a,
        "tumor_area_b_mm2": b,
        "tumor_area_difference_mm2": b - a,
        "tumor_area_relative_difference": (b - a) / a if a else None,
        "tumor_dice": 0.5 if a else None,
        "tumor_agreement": 0.9,
        "tumor_only_in_a_mm2": 0.1,
        "tumor_only_in_b_mm2": 0.2,
        "analysed_only_in_a_mm2": 0.0,
        "analysed_only_in_b_mm2": 0.0,
        "classes": {"tumor": figures},
        **values,
    }


def side(text: str = "x") -> dict:
    return {
        "results": text,
        "slides": 3,
        "models": [{"name": text, "sha256": text}],
        "backends": [text],
        "versions": {"noctile": [text]},
        "runs": [text],
        "settings": {},
    }


def page(rows, text: str = "x") -> str:
    differing = {"settings": [{"name": text, "a": [text], "b": []}], "versions": []}
    provenance = {"a": side(text), "b": side(text), "differing": differing}
    counts = dict.fromkeys({r["status"] for r in rows}, 1)
    return diff_page(Comparison(rows, counts, provenance, datetime(2026, 11, 29, tzinfo=UTC)))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]


def test_every_text_is_escaped():
    hostile = {"status": "only_a", "message": SCRIPT, "slide_id_b": SCRIPT}
    rows = [
        row(
            SCRIPT,
            1,
            2,
            message=SCRIPT,
            matched_by=SCRIPT,
            classes={SCRIPT: {"area_a_mm2": 1.0, "area_b_mm2": 1.0, "dice": 1.0}},
        ),
        row(f'"{SCRIPT}', 1, 2, **hostile),
    ]
    text = page(rows, SCRIPT)
    assert SCRIPT not in text
    assert parsed(text).tags.count("script") == 1  # that of the template


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_ids_are_quoted_in_links():
    links = parsed(page([row("50 % #1?", 1, 2)])).links
    assert "slides/50%20%25%20%231%3F/preview.jpg" in links
    assert not [link for link in links if re.match("https?:|//", link)]


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, without a window."""
    with chromium() as driver:
        yield driver


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_browser(browser, tmp_path, width):
    """No error on the console, nothing beyond the edge, and no serious fault that axe finds."""
    rows = [row("s1", 1, 3), row("A rather long name of a slide 1234567", 2, 2, tumor_dice=0.9)]
    rows.append(row("left", 1, 1, status="only_a", message="folder b does not have this slide"))
    for slide in ("s1", "A rather long name of a slide 1234567"):
        (tmp_path / "slides" / slide).mkdir(parents=True)
        Image.new("RGB", (90, 60)).save(tmp_path / "slides" / slide / "preview.jpg")
    (tmp_path / "index.html").write_text(page(rows), encoding="utf-8")
    browser.set_window_size(width, 900)
    browser.get((tmp_path / "index.html").as_uri())
    assert browser.get_log("browser") == []
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(f"return {wide}") == 0
    assert browser.execute_script("return document.querySelector('a.open').hidden")
    if axe := os.environ.get("NOCTILE_AXE"):
        browser.execute_script(Path(axe).read_text(encoding="utf-8"))
        found = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_slides_sort_and_filter(browser, tmp_path):
    """By signed difference and by Dice; the largest change comes first until a heading is used."""
    rows = [
        row(name, 1, 1 + change, tumor_dice=dice)
        for name, change, dice in (("s1", -0.9, 0.2), ("s2", 0.5, None), ("s3", 0.1, 0.95))
    ]
    (tmp_path / "index.html").write_text(page(rows), encoding="utf-8")
    browser.get((tmp_path / "index.html").as_uri())
    shown = (
        "return [...document.querySelectorAll('#slides tbody tr')]"
        ".map(row => row.cells[0].firstChild.textContent.trim())"
    )
    sort = "document.querySelector('th[data-name={}] button').click()"
    assert browser.execute_script(shown) == ["s1", "s2", "s3"]
    browser.execute_script(sort.format("tumor_area_difference_mm2"))
    browser.execute_script(sort.format("tumor_area_difference_mm2"))
    assert browser.execute_script(shown) == ["s2", "s3", "s1"]
    browser.execute_script(sort.format("tumor_dice"))
    assert browser.execute_script(shown) == ["s1", "s3", "s2"]
    browser.execute_script(sort.format("tumor_area_relative_difference"))
    assert browser.execute_script(shown) == ["s1", "s3", "s2"]  # -90 %, +10 %, +50 %
    browser.execute_script("document.getElementById('f-dice-high').value = '0.9'; filter()")
    assert browser.execute_script(shown) == ["s1"]


def test_figures_are_shown():
    rows = [row("s1", 1, 3), row("s2", 2, 2), row("glass", 0, 0)]
    text = page(rows)
    limits = tumor_limits(rows)
    for figure in (limits.bias, limits.lower, limits.upper):
        assert f"{figure.low:.3f} to {figure.high:.3f} mm²" in text
    assert limits.bias.value == pytest.approx(np.mean([2, 0, 0]))
    assert "Slides of one patient are not independent" in text
    assert "Not compared" not in text


def test_one_slide_and_no_slide_have_pages():
    assert "need at least two slides" in page([row("s1", 1, 3)])
    text = page([row("s1", 1, 3, status="only_a", message="folder b does not have this slide")])
    assert "folder b does not have this slide" in text


def test_sums_of_classes():
    totals = class_totals([row("s1", 1, 3), row("s2", 2, 2), row("glass", 0, 0)])
    assert [(t.name, t.slides, t.a_mm2, t.b_mm2, t.dice) for t in totals] == [
        ("tumor", 3, 3, 5, 0.5)
    ]
