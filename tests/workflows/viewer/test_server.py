import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.viewer import server
from noctile.workflows.viewer.server import listen, reviewer_name, serve


def test_a_free_port_of_this_machine_is_opened():
    with listen(0) as opened:
        assert opened.getsockname()[0] == "127.0.0.1"
        assert opened.getsockname()[1] > 0


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is taken by another program; name"):
            listen(port)


def test_the_reviewer_is_the_user_unless_named(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    assert reviewer_name(None) == "ada"
    assert reviewer_name(" Grace Hopper ") == "Grace Hopper"


def test_a_user_without_a_name_is_a_reviewer(monkeypatch):
    def fail():
        raise OSError("no name")

    monkeypatch.setattr("getpass.getuser", fail)
    assert reviewer_name(None) == "reviewer"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[1m", "a" * 101])
def test_names_that_cannot_be_saved_are_refused(name):
    with pytest.raises(UsageError, match="--reviewer"):
        reviewer_name(name)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        serve(tmp_path, 0, None, None, print)


def test_a_slide_that_is_unknown_is_refused(viewed):
    with pytest.raises(UsageError, match="knows no slide zz"):
        serve(viewed / "results", 0, None, "zz", print)


def test_the_page_of_a_slide_is_named_and_the_port_closed_at_the_end(viewed):
    shown = []

    def ready(url: str) -> None:
        shown.append(url)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(viewed / "results", 0, "ada", "a", ready)
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/[\w-]{43}/#slide=a", shown[0])
    listen(int(found[1])).close()


def test_ctrl_c_ends_the_program_with_exit_code_130(viewed):
    program = [sys.executable, "-m", "noctile", "view", str(viewed / "results"), "--no-browser"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as viewer:
        url = ""
        while not url.startswith("http"):
            url = viewer.stdout.readline().strip()
        with urllib.request.urlopen(url + "api/slides", timeout=30) as answer:
            assert answer.status == 200
        viewer.send_signal(signal.SIGINT)
        _, errors = viewer.communicate(timeout=30)
    assert viewer.returncode == 130
    assert errors == "noctile: interrupted\n"


def test_requests_have_limits():
    made = server.http_server(lambda request: None)
    assert made.conn_params.max_body_size == server.MAX_BODY_BYTES
    assert made.conn_params.body_timeout == 30
