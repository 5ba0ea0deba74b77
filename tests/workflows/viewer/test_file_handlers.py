import json
import os

import pytest

from noctile.workflows.viewer.file_handlers import STATIC


def test_the_page_and_its_files_are_sent(client):
    answer = client.get("")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.body == (STATIC / "viewer.html").read_bytes()
    assert client.get("static/viewer.html").body == answer.body


@pytest.mark.parametrize("name", ["../access.py", "..%2Faccess.py", "%2e%2e/access.py", "", "x"])
def test_nothing_but_the_page_is_sent_from_the_package(client, name):
    assert client.get(f"static/{name}").status == 404


def test_files_of_the_results_are_sent(client, viewed):
    for name in ("slides.csv", "slides/a/preview.jpg", "slides/a/summary.json"):
        answer = client.get(f"report/{name}")
        assert answer.body == (viewed / "results" / name).read_bytes()
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Content-Disposition"] is None


def test_files_that_a_browser_does_not_show_are_downloads(client):
    answer = client.get("report/slides/a/tiles.parquet")
    assert answer.headers["Content-Disposition"] == "attachment"


def test_pages_of_the_results_have_an_origin_of_their_own(own, serve):
    (own / "index.html").write_text("<script>1</script>")
    (own / "slides" / "a" / "evil.html").write_text("<script>1</script>")
    with serve(own) as client:
        answer = client.get("report/index.html")
        assert "sandbox allow-scripts" in answer.headers["Content-Security-Policy"]
        assert "allow-same-origin" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Disposition"] is None
        evil = client.get("report/slides/a/evil.html")
        assert evil.headers["Content-Disposition"] == "attachment"


def test_folders_are_lists_of_links(client):
    answer = client.get("report/slides/a/")
    assert b'<a href="./summary.json">summary.json</a>' in answer.body
    moved = client.get("report/slides/a")
    assert (moved.status, moved.headers["Location"]) == (302, "a/")


def test_names_in_a_list_are_escaped(own, serve):
    (own / "slides" / "a" / "<script>&").touch()
    with serve(own) as client:
        answer = client.get("report/slides/a/")
    assert b'<a href="./%3Cscript%3E%26">&lt;script&gt;&amp;</a>' in answer.body


@pytest.mark.parametrize(
    "name",
    [
        *("../run", "..%2F..%2Fetc/passwd", "%2Fetc%2Fpasswd", "/etc/passwd", "slides/../../x"),
        *("slides%5Ca", "slides.csv%00", ".staging", ".plan/x", "%2e%2e", "link.txt", "out/x.txt"),
    ],
)
def test_nothing_outside_the_results_is_sent(own, serve, name, tmp_path):
    (tmp_path / "x.txt").write_text("secret")
    (own / "link.txt").symlink_to(tmp_path / "x.txt")
    (own / "out").symlink_to(tmp_path)
    with serve(own) as client:
        answer = client.get(f"report/{name}")
    assert answer.status == 404
    assert b"secret" not in answer.body


def test_a_part_of_a_file_is_sent(client, viewed):
    content = (viewed / "results" / "slides.csv").read_bytes()
    answer = client.get("report/slides.csv", Range="bytes=5-9")
    assert (answer.status, answer.body) == (206, content[5:10])
    assert answer.headers["Content-Range"] == f"bytes 5-9/{len(content)}"
    beyond = client.get("report/slides.csv", Range=f"bytes={len(content)}-")
    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{len(content)}"


def test_a_part_of_a_changed_file_is_the_whole_file(client, viewed):
    content = (viewed / "results" / "slides.csv").read_bytes()
    answer = client.get("report/slides.csv", Range="bytes=5-9", If_Range='"other"')
    assert (answer.status, answer.body) == (200, content)


def test_head_has_length_and_no_body(client, viewed):
    answer = client.send("HEAD", f"/{client.access.token}/report/slides.csv")
    size = (viewed / "results" / "slides.csv").stat().st_size
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == str(size)
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_file_that_the_browser_has_is_not_sent_again(client):
    etag = client.get("report/slides.csv").headers["Etag"]
    again = client.get("report/slides.csv", If_None_Match=etag)
    assert (again.status, again.body) == (304, b"")


def test_a_file_of_many_parts_is_sent_whole(own, serve):
    content = os.urandom(3_000_000)
    (own / "large.bin").write_bytes(content)
    with serve(own) as client:
        assert client.get("report/large.bin").body == content


def test_summaries_are_the_same_as_on_disk(client, viewed):
    answer = client.get("report/slides/a/summary.json")
    assert answer.json == json.loads((viewed / "results/slides/a/summary.json").read_text())
