import pytest

from noctile.workflows.viewer.access import PAGE_POLICY, Access, new_token

ACCESS = Access("secret", 8000)
HOST = {"Host": "127.0.0.1:8000"}


def problem(path: str = "/secret/", headers: dict | None = None, *, writes: bool = False):
    return ACCESS.problem(path, HOST if headers is None else headers, writes=writes)


def test_tokens_are_long_and_differ():
    assert len({new_token() for _ in range(100)}) == 100
    assert min(len(new_token()) for _ in range(100)) >= 43  # 32 random bytes


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"])
def test_the_viewers_own_hosts_are_answered(host):
    assert problem(headers={"Host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:80", "localhost:8001"),
        *("127.0.0.1:8000.evil.example", "localhost:8000,evil.example", "0.0.0.0:8000"),
        *("[::1]:8000", "user@localhost:8000", "localhost.:8000"),
    ],
)
def test_other_hosts_are_refused(host):
    assert "127.0.0.1:8000" in problem(headers={"Host": host})


def test_a_request_without_a_host_is_refused():
    assert problem(headers={})


def test_port_80_needs_no_number():
    assert Access("secret", 80).problem("/secret/", {"Host": "localhost"}, writes=False) is None


@pytest.mark.parametrize(
    "path",
    [
        *("/", "", "/secre/", "/secrets/", "/SECRET/", "//secret/", "/ secret/", "secret/"),
        *("/%73ecret/", "http://evil/secret/", "/é/", "/x/secret/", "\udce9/"),
    ],
)
def test_paths_without_the_token_are_refused(path):
    assert "token" in problem(path)


@pytest.mark.parametrize("path", ["/secret/", "/secret/api/slides", "/secret"])
def test_paths_with_the_token_are_answered(path):
    assert problem(path) is None


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((a, b)) or False)
    assert problem("/secret/")
    assert compared == [(b"secret", b"secret")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:8000"},
    ],
)
def test_the_page_and_programs_may_write(headers):
    assert problem(headers=HOST | headers, writes=True) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1:8001"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_pages_may_not_write(headers):
    assert "own page" in problem(headers=HOST | headers, writes=True)


def test_the_page_runs_no_script_of_others():
    assert "'unsafe" not in PAGE_POLICY
    assert "http" not in PAGE_POLICY
    assert "default-src 'none'" in PAGE_POLICY
