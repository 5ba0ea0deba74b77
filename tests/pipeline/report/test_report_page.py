"""Page of a folder of results."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np

from noctile.pipeline.report.report_page import MARK, Report, RunFacts, report_page

SCRIPT = "</script><script>alert('x')</script>"


def row(slide_id: str, status: str = "done", **values) -> dict:
    done = status == "done"
    figures = {
        "tissue_area_mm2": 10.0 if done else None,
        "tumor_area_mm2": 2.5 if done else None,
        "tumor_fraction_of_tissue": 0.25 if done else None,
        "tumor_foci": 3 if done else None,
        "mean_confidence": 0.9 if done else None,
        "seam_disagreement": 0.01 if done else None,
        "seconds": 12.0 if done else None,
        "qc_flags": [] if done else None,
    }
    about = {"path": f"/scans/{slide_id}.svs", "reason": None, "message": None, "group": None}
    return {"slide_id": slide_id, "status": status} | about | figures | values


def page(rows, text: str = "x", finished=(0.1, 0.5, 1.0), thumbnails=(), regions=()) -> str:
    run = RunFacts(text, text, 2, 1, 0, text, text, text, text)
    hours = np.array(finished, float)
    made = datetime(2026, 11, 29, tzinfo=UTC)
    report = Report(text, rows, [run], hours, False, made, regions=regions)
    return report_page(report, thumbnails)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_every_text_is_escaped():
    texts = {"group": SCRIPT, "message": SCRIPT, "reason": SCRIPT, "path": SCRIPT}
    rows = [
        row(SCRIPT, **texts, qc_flags=[SCRIPT], review_status=SCRIPT),
        row(f'"{SCRIPT}', "failed", **texts),
        row("gone", "skipped", **texts),
    ]
    text = page(rows, SCRIPT, thumbnails={SCRIPT})
    assert "alert('x')" not in text
    assert parsed(text).tags.count("script") == 1  # that of the template


def test_the_page_needs_no_other_host():
    links = parsed(page([row("50 % #1?"), row("b")], thumbnails={"50 % #1?"})).links
    assert "index_files/50%20%25%20%231%3F.jpg" in links
    assert "slides/50%20%25%20%231%3F/" in links
    assert not [link for link in links if re.match("https?:|//", link)]


def test_pictures_are_loaded_when_they_are_seen():
    text = page([row("a"), row("b")], thumbnails={"a"})
    pictures = re.findall("<img .*?>", text)
    assert len(pictures) == 1  # a slide without a picture has no broken one
    assert 'loading="lazy"' in pictures[0]


def test_failed_slides_come_first_with_reason_and_remedy():
    text = page([row("a"), row("bad", "failed", reason="mpp_missing", message="no pixel size")])
    failed = text.index("Slides that failed")
    assert (
        failed < text.index("no pixel size") < text.index("--mpp 0.25") < text.index("All slides")
    )


def test_figures_are_shown():
    text = page([row("a"), row("b", tumor_area_mm2=-0.0001), row("c", "skipped", reason="waiting")])
    assert "<b>20.0</b>" in text  # tissue
    assert '<td class="n">2.500</td>' in text
    assert '<td class="n">0.000</td>' in text
    assert "–" in text
    assert MARK in text


def test_charts_have_axes_with_units():
    text = page([row("a"), row("b")])
    for label in ("tissue area (mm²)", "mean confidence (0 to 1)", "slides per hour"):
        assert f">{label}</text>" in text
    assert "<svg" not in page([row("a")], finished=())


def test_a_folder_without_slides_has_a_page():
    text = page([], finished=())
    assert "No slide failed." in text
    assert "No slide needs a look" in text


def test_the_review_status_is_a_column_where_there_is_one():
    assert "review</th>" not in page([row("a")])
    assert "<td>rejected</td>" in page([row("a", review_status="rejected")])


def test_a_long_queue_names_the_number_of_the_others():
    rows = [row(f"s{k}", mean_confidence=0.1) for k in range(201)]
    assert "The first 200 of 201 are shown" in page(rows)


def region(slide_id: str, name: str) -> dict:
    areas = {
        f"{kind}_area_mm2": mm2 for kind, mm2 in (("region", 4), ("tissue", 2), ("tumor", 0.5))
    }
    about = {"region": name, "region_class": None, "tumor_fraction_of_tissue": 0.125}
    return {"slide_id": slide_id} | about | areas


def test_regions_of_interest_have_rows_and_their_slides_a_caption():
    regions = [region("a", SCRIPT), region("a", "bed")]
    text = page([row("a"), row("b")], regions=regions)
    assert text.count("confined to 2 regions") == 1
    assert re.search(r"<td>bed</td><td></td><td class=\"n\">4\.000</td>.*>0\.125<", text)
    assert "alert('x')" not in text
    assert "Regions of interest" not in page([row("a")])
    many = page([row("a")], regions=[region("a", str(k)) for k in range(201)])
    assert "The first 200 of 201 are shown. regions.csv has all." in many
