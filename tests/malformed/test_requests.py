"""Any request to the viewer is answered with a status below 500 or refused, and changes nothing."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viewer_client import Book, Client, make_results, serving

SECRET = b"what stands beside the results"

WHOLE = [
    *("", "api/slides", "api/slides/a", "api/slides/a/foci", "api/slides/broken"),
    *("tiles/a/slide/0/0_0.jpg", "tiles/a/mask/1/0_0.png", "tiles/a/tumor/0/0_0.png"),
    *("api/slides/a/review", "api/slides/a/regions", "api/slides/broken/review"),
    *("report/index.html", "report/slides.csv", "report/slides/a/", "static/viewer.html"),
]
PARTS = [
    *("api", "slides", "tiles", "report", "static", "a", "broken", "mask", "slide", "foci", "0"),
    *(
        "0_0.png",
        "0_0.jpg",
        "-1",
        "-1_0.png",
        "9" * 30,
        f"{'9' * 30}_0.png",
        "1e9",
        "0x0",
        "٣_٣.png",
    ),
    *("..", ".", "%2e%2e", "%2E%2E%2F", "..%2f..%2fsecret.txt", "%252e%252e", "..;", "....//"),
    *("..\\secret.txt", "..%5c", "%00", "a%00.png", "%0d%0aX: y", "%ff", "%", "%zz", "~", "*"),
    *(
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "C:%5c",
        "con",
        "secret.txt",
        "link.txt",
        "out",
        ".staging",
    ),
    *(".staging", "review", "regions", "ledger.jsonl", "lease.json"),
]
QUERIES = [
    "show=",
    "show=1,2",
    "show=-1",
    "show=%00",
    "style=x",
    "style=outline",
    "v=1",
    "&&=&",
    "?",
]
METHODS = [
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "BREW",
    "",
]
HEADERS = [
    *("Range: bytes=0-", "Range: bytes=-1", "Range: bytes=9-0", f"Range: bytes={'9' * 99}-"),
    *("Range: bytes=0-1,3-4", "Range: \xff", "If-None-Match: *", "If-Range: x", "Host: evil"),
    *("Origin: null", "Origin: http://evil", "Sec-Fetch-Site: cross-site", "Expect: 100-continue"),
    *("Content-Length: -1", "Content-Length: 99999999999", "Content-Length: x"),
    *("Transfer-Encoding: chunked", "Content-Encoding: gzip", "Content-Type: multipart/form-data"),
    *("Content-Type: application/x-www-form-urlencoded", "Upgrade: websocket", "Connection: close"),
    *("X-Forwarded-For: 1.2.3.4", "Cookie: \x00", ": empty", "no colon", "X: LONG"),
]
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"DEEP",
    b"\xff\x00",
    b'{"status":"accepted"}',
    b'{"status":"accepted","note":"","version":"0"}',
    b'{"features":[{}],"version":"0"}',
    b"a=%zz",
]


@dataclass
class Fuzzed:
    """A viewer, and what must stay as it is.

    Attributes:
        client: sends requests to it.
        folder: holds the results, and what lies beside them.
        errors: messages about errors of the program.
    """

    client: Client
    folder: Path
    errors: list[str]


class Errors(logging.Handler):
    """Errors of the program that Tornado logs."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__()
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.append(self.format(record))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> Iterator[Fuzzed]:
    folder = make_results(tmp_path_factory.mktemp("fuzzed"))
    results = folder / "results"
    (folder / "secret.txt").write_bytes(SECRET)
    (results / "secret.txt").symlink_to(folder / "secret.txt")
    (results / "link.txt").symlink_to(folder / "secret.txt")
    (results / "out").symlink_to(folder)
    errors: list[str] = []
    handler = Errors(errors)
    logging.getLogger("tornado.application").addHandler(handler)
    with serving(results, reviews=Book()) as client:
        yield Fuzzed(client, folder, errors)
    logging.getLogger("tornado.application").removeHandler(handler)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder."""
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return {str(f): (f.lstat().st_size, f.lstat().st_mtime_ns) for f in files}


def send(port: int, request: bytes) -> bytes:
    """Send raw bytes, and return all that is answered; b"" if the connection is closed.

    A server that waits for the rest of a request is told that there is none.
    """
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
        with suppress(ConnectionError):
            connection.sendall(request)
        for timeout in (0.5, 20):
            connection.settimeout(timeout)
            with suppress(ConnectionError, TimeoutError):
                while part := connection.recv(65_536):
                    answer += part
                return answer
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
    return answer


def targets(token: str) -> st.SearchStrategy[str]:
    """Targets of requests: most of them have the token, and parts that are known."""
    token_or_not = st.sampled_from([token] * 8 + ["wrong", "", "..", f"{token}%00", "http://evil"])
    paths = st.one_of(
        st.sampled_from(WHOLE),
        st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=6).map("/".join),
        st.builds("{}/{}".format, st.sampled_from(WHOLE), st.sampled_from(PARTS)),
    )
    queries = st.one_of(st.just(""), st.lists(st.sampled_from(QUERIES)).map("&".join))
    return st.builds("/{}/{}?{}".format, token_or_not, paths, queries)


def as_bytes(method: str, target: str, version: str, headers: list[str], body: bytes) -> bytes:
    """A request; ``LONG`` stands for a text that no header may have, and ``DEEP`` for a body."""
    line = f"{method} {target.replace(' ', '%20')} {version}".encode("utf-8", "surrogatepass")
    named = "".join(f"\r\n{text}" for text in headers).replace("LONG", "y" * 20_000)
    deep = body.replace(b"DEEP", b"[" * 5000)
    return line + named.encode("latin-1", "replace") + b"\r\n\r\n" + deep


def requests(client: Client) -> st.SearchStrategy[bytes]:
    """Requests, whole or not, with any method, target, headers and body."""
    own = [f"Host: 127.0.0.1:{client.access.port}", "Connection: close"]
    return st.builds(
        as_bytes,
        st.sampled_from(["GET"] * 10 + ["PUT"] * 5 + METHODS),
        targets(client.access.token),
        st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/2.0", "HTTP/9", ""]),
        st.lists(st.sampled_from(HEADERS), max_size=3).map(own.__add__),
        st.one_of(st.sampled_from(BODIES), st.binary(max_size=50)),
    )


def check(fuzzed: Fuzzed, data: st.DataObject) -> None:
    """Send one request: its answer is no error of the program, and has no secret."""
    request = data.draw(requests(fuzzed.client))
    answer = send(fuzzed.client.access.port, request)
    assert not answer or answer.startswith(
        (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 1")
    )
    assert SECRET not in answer
    assert b"root:" not in answer
    assert b"Traceback" not in answer
    assert fuzzed.errors == []


@given(st.data())
def test_any_request_is_answered_or_refused(fuzzed, data):
    before = state(fuzzed.folder)
    check(fuzzed, data)
    assert state(fuzzed.folder) == before
    assert fuzzed.client.get("api/slides").status == 200


@pytest.mark.long
@settings(max_examples=2_000)
@given(st.data())
def test_any_of_many_requests_is_answered_or_refused(fuzzed, data):
    check(fuzzed, data)


@pytest.mark.parametrize("path", ["", *WHOLE, "report/secret.txt", "report/out/secret.txt"])
def test_without_the_token_or_the_host_nothing_is_answered(fuzzed, path):
    port, token = fuzzed.client.access.port, fuzzed.client.access.token
    own, rest = f"127.0.0.1:{port}", "Connection: close\r\n\r\n"
    for host, prefix in ((own, "wrong"), ("evil.example", token), ("", token)):
        for method in ("GET", "HEAD", "PUT", "BREW"):
            line = f"{method} /{prefix}/{path} HTTP/1.1\r\nHost: {host}\r\n{rest}"
            answer = send(port, line.encode())
            assert answer.split()[1] in (b"400", b"403", b"405")
            assert SECRET not in answer
