"""The server of an audit: no prediction in any answer, and the rules of access of the viewer."""

import io

import pytest
from PIL import Image

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.audit import AuditRequest, open_audit
from noctile.workflows.viewer.audit_server import ANSWER_BYTES, audit_application, serve_audit
from noctile.workflows.viewer.server import listen


@pytest.fixture
def audits(own):
    return open_audit(own, AuditRequest(points=20))


@pytest.fixture
def client(own, audits, serve):
    del audits
    with serve(own, "ada", None, audit_application) as client:
        yield client


def test_points_are_shown_answered_and_kept(client, audits):
    audit = client.get("api/audit").json
    one = audit["points"][0]
    point = client.get(f"api/points/{one}").json
    answer = client.get(f"tiles/{one}/slide/0/0_0.jpg?v={point['version']}")
    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.body)) as image:
        assert image.size == (512, 512)
    assert client.put(f"api/points/{one}/answer", {"answer": "tumor"}).json == {"saved": True}
    assert client.get("api/audit").json["answers"] == {one: "tumor"}
    assert [(a.reader, a.point_id, a.answer) for a in audits.answers()] == [("ada", one, "tumor")]
    assert b"audit.js" in client.get("").body


def test_no_answer_names_the_slide_or_a_prediction(client):
    one = client.get("api/audit").json["points"][0]
    bodies = [client.get(path).body for path in ("api/audit", f"api/points/{one}")]
    assert not any(b'"a"' in body or b"stratum" in body or b"weight" in body for body in bodies)
    hidden = (
        "report/index.html",
        "report/audit/points.csv",
        "api/slides",
        "api/slides/a",
        "api/slides/a/foci",
        "tiles/a/mask/0/0_0.png",
        f"tiles/{one}/mask/0/0_0.png",
        f"tiles/{one}/tumor/0/0_0.png",
        f"tiles/{one}/confidence/0/0_0.png",
        "tiles/a/slide/0/0_0.jpg",
    )
    assert {path: client.get(path).status for path in hidden} == dict.fromkeys(hidden, 404)


def test_wrong_requests_are_refused_and_save_nothing(client, audits):
    one = client.get("api/audit").json["points"][0]
    path = f"api/points/{one}/answer"
    assert client.put(path, {"answer": "necrosis"}).status == 400
    assert client.put(path, {"answer": "x" * ANSWER_BYTES}).status == 400
    assert client.put("api/points/p999/answer", {"answer": "tumor"}).status == 404
    assert client.get("api/points/p999").status == 404
    elsewhere = {"Origin": "http://evil.example"}
    assert client.put(path, {"answer": "tumor"}, **elsewhere).status == 403
    assert client.send("PUT", f"/wrong/{path}", b'{"answer": "tumor"}').status == 403
    assert client.get("api/audit", Host="evil.example").status == 403
    assert audits.answers() == []


def test_a_port_that_is_taken_is_named(own, audits):
    with listen(0) as taken, pytest.raises(UsageError, match="is taken"):
        serve_audit(own, audits, taken.getsockname()[1], "ada", print)
