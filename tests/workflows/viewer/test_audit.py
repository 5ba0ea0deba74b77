"""Audit as one reader sees it."""

import json

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.commands.opened import open_results
from noctile.workflows.viewer.audit import NoPointError, ReaderAudit, parse_answer
from noctile.workflows.viewer.listing import Listing
from noctile.workflows.viewer.views import Views


@pytest.fixture
def audited(own):
    """Audit of a run's results, and a function that opens it for a reader."""
    audits = open_audit(own, AuditRequest(points=20))

    def reader_audit(reader: str) -> ReaderAudit:
        results = open_results(own)
        return ReaderAudit(audits, reader, Views(results, Listing(results)))

    return audits, reader_audit


def test_each_reader_has_an_order_that_stays(audited):
    audits, reader_audit = audited
    ada, again, ben = (reader_audit(name).order for name in ("ada", "ada", "ben"))
    assert ada == again != ben
    assert sorted(ada) == sorted(ben) == [p.point_id for p in audits.points()]


def test_points_that_are_added_come_last_and_an_open_page_loses_no_answer(audited, own):
    audits, reader_audit = audited
    ada, ben = reader_audit("ada"), reader_audit("ben")
    before = ada.order
    ada.save(before[0], "tumor")
    open_audit(own, AuditRequest(points=40))
    ada.save(before[1], "stroma")
    assert ada.document()["points"] == before
    later = reader_audit("cy").order[20:]
    assert set(later) == {p.point_id for p in audits.points() if p.batch == 40}
    reader_audit("cy").save(later[0], "tumor")
    ben.save(ben.order[0], "tumor")
    again = reader_audit("ada")
    assert again.order[:20] == before
    assert sorted(again.order[20:]) == sorted(later)
    assert again.order[20:] != later
    assert again.document()["answers"] == {before[0]: "tumor", before[1]: "stroma"}
    assert len(audits.answers()) == 4
    audits.save("ada", {later[0]: "tumor"})  # in QuPath, say
    assert ada.document()["answers"] == {before[0]: "tumor", before[1]: "stroma"}


def test_a_reader_gets_own_answers_and_no_prediction(audited):
    audits, reader_audit = audited
    ada = reader_audit("ada")
    one, two = ada.order[:2]
    ada.save(one, "stroma")
    reader_audit("ben").save(two, "tumor")
    document = ada.document()
    assert document["answers"] == {one: "stroma"}
    assert document["readers"] == ["ada", "ben"]
    assert [(c["name"], c["key"]) for c in document["classes"]] == [
        (name, str(k)) for k, name in enumerate(audits.design().class_names, start=1)
    ]
    assert [c["key"] for c in document["others"]] == ["u", "x"]


def test_a_point_is_where_it_was_drawn_and_tells_no_class(audited):
    audits, reader_audit = audited
    ada = reader_audit("ada")
    for point in audits.points():
        document = ada.point_document(point.point_id)
        assert (document["y_um"], document["x_um"]) == (point.y_um, point.x_um)
        assert document["notice"] == ""
        assert not {"classes", "mask", "heat", "stratum", "group", "slide_id"} & document.keys()
        text = json.dumps(document)
        assert not any(name in text for name in audits.design().class_names)


def test_a_slide_that_moved_cannot_be_answered(audited, own):
    audits, reader_audit = audited
    ada = reader_audit("ada")
    one = ada.order[0]
    slide = own.parent / "moved.tif"
    listed = Views._path
    try:
        Views._path = lambda *_: slide  # the file of the run serves other tests
        assert "There is no file" in ada.point_document(one)["notice"]
        with pytest.raises(NoPointError, match="cannot be answered: There is no file"):
            ada.save(one, "tumor")
    finally:
        Views._path = listed
    assert audits.answers() == []
    design = own / "audit" / "design.json"
    key = audits.design().slides[0].key
    design.write_text(design.read_text().replace(key, "earlier"))
    assert "made anew" in reader_audit("ada").point_document(one)["notice"]


def test_an_unknown_point_is_refused(audited):
    ada = audited[1]("ada")
    for act in (ada.point_document, ada.view, lambda name: ada.save(name, "tumor")):
        with pytest.raises(NoPointError, match="no such point"):
            act("p999")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"answer": 3}', b'{"answer": [[[1]]]}']
)
def test_a_body_without_an_answer_is_refused(body):
    with pytest.raises(UsageError):
        parse_answer(body)
    assert parse_answer(b'{"answer": "tumor"}') == "tumor"
