import io
import json
import os

import pytest
from PIL import Image

from noctile.workflows.viewer.handlers import SlidesHandler

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def test_the_list_of_slides(client):
    answer = client.get("api/slides")
    assert answer.status == 200
    assert answer.json["results"] == "results"
    assert answer.json["reviewer"] == "ada"
    assert [row["slide_id"] for row in answer.json["slides"]] == ["a", "broken"]
    assert answer.json["slides"][1]["status"] == "failed"


@pytest.mark.parametrize("path", ["api/slides", "api/slides/a", "", "no%20such%20page", "report/x"])
def test_every_answer_has_the_headers(client, path):
    answer = client.get(path)
    for name, value in HEADERS.items():
        if path != "report/x" or name != "Content-Security-Policy":
            assert answer.headers[name].startswith(value)
    assert answer.headers["Server"] is None


def test_a_slide(client):
    answer = client.get("api/slides/a")
    assert answer.json["slide_id"] == "a"
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert len(client.get("api/slides/a/foci").json) == answer.json["figures"]["tumor_foci"]


def test_a_slide_that_failed_is_named_with_the_reason(client):
    answer = client.get("api/slides/broken")
    assert answer.status == 404
    assert "unopenable" in answer.json["error"]


@pytest.mark.parametrize("layer", ["slide", "mask", "tumor", "confidence"])
def test_tiles(client, layer):
    suffix = "jpg" if layer == "slide" else "png"
    answer = client.get(f"tiles/a/{layer}/0/0_0.{suffix}")
    assert answer.status == 200
    assert Image.open(io.BytesIO(answer.body)).size[0] in (512, 188)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_has_the_length_and_no_body(client, method):
    path = f"/{client.access.token}/tiles/a/mask/0/0_0.png"
    answer = client.send(method, path)
    assert answer.status == 200
    assert int(answer.headers["Content-Length"]) > 100
    assert bool(answer.body) == (method == "GET")


def test_a_browser_keeps_a_tile_of_a_named_version(client):
    version = client.get("api/slides/a").json["version"]
    answer = client.get(f"tiles/a/slide/0/0_0.jpg?v={version}")
    assert "immutable" in answer.headers["Cache-Control"]
    assert client.get("tiles/a/slide/0/0_0.jpg").headers["Cache-Control"] == "private, no-cache"
    again = client.get("tiles/a/slide/0/0_0.jpg", If_None_Match=answer.headers["Etag"])
    assert (again.status, again.body) == (304, b"")
    assert client.get("tiles/a/slide/0/0_0.jpg", If_None_Match='"other"').status == 200


def test_a_tile_of_a_replaced_result_is_gone(own, serve):
    with serve(own) as client:
        version = client.get("api/slides/a").json["version"]
        os.utime(own / "slides" / "a" / "summary.json", ns=(1, 1))
        assert client.get(f"tiles/a/mask/0/0_0.png?v={version}").status == 410
        new = client.get("api/slides/a").json["version"]
        assert client.get(f"tiles/a/mask/0/0_0.png?v={new}").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tiles/a/mask/0/0_0.jpg", 404),
        ("tiles/a/slide/0/0_0.png", 404),
        ("tiles/a/other/0/0_0.png", 404),
        ("tiles/a/mask/9/0_0.png", 404),
        ("tiles/a/mask/0/999999999_0.png", 404),
        ("tiles/a/mask/0/9999999999999999_0.png", 404),
        ("tiles/a/mask/-1/0_0.png", 404),
        ("tiles/a/mask/0/-1_0.png", 404),
        ("tiles/broken/mask/0/0_0.png", 404),
        ("tiles/a/mask/0/0_0.png?show=x", 400),
        ("tiles/a/mask/0/0_0.png?style=x", 400),
        ("tiles/..%2Fa/mask/0/0_0.png", 404),
        ("api/slides/%00", 404),
        ("api/slides/%ff", 400),
        ("api/slides/..%2F..%2Fetc", 404),
        ("api", 404),
    ],
)
def test_wrong_requests_are_errors_in_json(client, path, status):
    answer = client.get(path)
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert answer.json["error"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"])
@pytest.mark.parametrize("path", ["", "api/slides", "report/slides.csv", "tiles/a/mask/0/0_0.png"])
def test_nothing_else_can_be_changed(client, method, path):
    answer = client.send(method, f"/{client.access.token}/{path}", b"{}")
    assert answer.status == 405
    assert answer.json == {"error": "Method Not Allowed"}


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/api/slides", "/wrong/no such"])
def test_without_the_token_nothing_is_answered(client, path):
    answer = client.send("GET", path.replace(" ", "%20"))
    assert answer.status == 403
    assert "token" in answer.json["error"]


@pytest.mark.parametrize("path", ["", "api/slides", "tiles/a/slide/0/0_0.jpg", "no"])
def test_other_hosts_are_refused(client, path):
    answer = client.get(path, Host="evil.example")
    assert answer.status == 403
    assert b"slide" not in answer.body


def test_a_browser_that_asks_for_an_icon_gets_no_error(client):
    answer = client.send("GET", "/favicon.ico")
    assert (answer.status, answer.body) == (204, b"")
    assert client.send("GET", "/favicon.ico", Host="evil.example").status == 403


def test_errors_of_the_program_tell_the_client_nothing(client, monkeypatch, caplog):
    async def fail(*_):
        raise RuntimeError("a secret of the program")

    monkeypatch.setattr(SlidesHandler, "get", fail)
    answer = client.get("api/slides")
    assert answer.status == 500
    assert answer.json == {"error": "Internal Server Error"}
    assert "a secret of the program" in caplog.text


def test_a_large_body_is_refused(client):
    from noctile.workflows.viewer.server import MAX_BODY_BYTES

    path = f"/{client.access.token}/api/slides"
    answer = client.send("PUT", path, None, Content_Length=str(MAX_BODY_BYTES + 1))
    assert answer.status in (400, 413)
    assert json.dumps("Traceback") not in answer.body.decode()
