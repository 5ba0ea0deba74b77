"""Flow diagram: boxes do not overlap, counts are there, names of users are escaped."""

from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

from noctile.pipeline.patients.flow import Count, Flow
from noctile.pipeline.report.flow_chart import WIDTH, flow_svg, lay_out

HOSTILE = "</text><script>alert(1)</script>\x07" + "x" * 200
FLOW = Flow(
    Count(1234, 300),
    (("unreadable", 5), *((f"reason{k}", 1) for k in range(12))),
    3,
    2,
    Count(1200, 290),
    Count(40, 30),
    1,
    (("no_value", Count(10, 5)), ("values_disagree", Count(4, 2))),
    Count(1186, 283),
    tuple((name, Count(5, 2)) for name in ("a", HOSTILE, "c", "d", "e")),
    7,
    0,
)


def test_the_svg_is_xml_with_all_counts():
    root = ElementTree.fromstring(flow_svg(FLOW, HOSTILE))
    text = " ".join(root.itertext())
    for part in (
        "1,234 slides, 300 patients",
        "5 slides without a result: unreadable",
        "40 of them",
    ):
        assert part in text
    assert "5 slides for 5 other reasons" in text
    assert "7 rows of the clinical table without a slide" in text
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    assert root.find("{http://www.w3.org/2000/svg}title").text


def test_boxes_lie_inside_and_do_not_overlap():
    chart = lay_out(FLOW, "subtype")
    for box in chart.boxes:
        assert 0 <= box.x <= box.x + box.width <= WIDTH
        assert 0 <= box.y <= box.bottom <= chart.height
    for a, b in combinations(chart.boxes, 2):
        apart_x = a.x + a.width <= b.x or b.x + b.width <= a.x
        assert apart_x or a.bottom <= b.y or b.bottom <= a.y


def test_empty_steps_have_no_box():
    nothing = replace(FLOW, not_done=(), rejected=0, not_listed=0, excluded=(), groups=())
    chart = lay_out(replace(nothing, unmatched_rows=0), "")
    assert [box.lines[0] for box in chart.boxes] == [
        "Submitted",
        "With a result that counts",
        "Analysed",
    ]
