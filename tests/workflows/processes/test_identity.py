"""Process identity: the same process, a later one with its number, one of another machine."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from noctile.workflows.processes import identity as module
from noctile.workflows.processes.identity import ProcessIdentity, uptime_s

ME = ProcessIdentity.me()


def test_this_process_is_here_and_alive():
    assert ProcessIdentity.me() == ME
    assert ME.is_here
    assert not ME.is_gone


def test_an_ended_process_is_gone():
    code = (
        "from noctile.workflows.processes.identity import ProcessIdentity\n"
        "print(ProcessIdentity.me().to_json())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    identity = ProcessIdentity.from_json(done.stdout)
    assert identity is not None
    assert identity.is_gone


def test_a_later_process_with_the_same_number_is_another_one():
    assert replace(ME, start_s=ME.start_s - 10).is_gone


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"place": "another boot"}])
def test_the_end_of_a_process_elsewhere_is_not_known(change):
    elsewhere = replace(ME, pid=2**22 + 1, **change)
    assert not elsewhere.is_here
    assert not elsewhere.is_gone


def test_an_identity_survives_json():
    assert ProcessIdentity.from_json(ME.to_json()) == ME


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"host": 1, "place": 2, "pid": "x"}'])
def test_any_other_text_is_no_identity(text):
    assert ProcessIdentity.from_json(text) is None


def test_a_process_before_the_last_start_of_this_machine_is_recognised(monkeypatch):
    monkeypatch.setattr(module, "_machine", lambda: "0" * 32)
    me = ProcessIdentity.me()
    before = replace(me, place="another-boot pid:[1]")
    assert before.is_of_an_earlier_boot
    assert not me.is_of_an_earlier_boot
    assert not replace(me, place=f"{me.place} of a container").is_of_an_earlier_boot
    assert not replace(before, host="elsewhere").is_of_an_earlier_boot
    assert not replace(before, machine="1" * 32).is_of_an_earlier_boot


def test_a_machine_without_an_id_recognises_no_earlier_start(monkeypatch):
    monkeypatch.setattr(module, "_machine", lambda: "")
    before = replace(ProcessIdentity.me(), place="another-boot pid:[1]")
    assert not before.is_of_an_earlier_boot


@pytest.mark.parametrize(
    ("text", "machine"),
    [("0123456789abcdef" * 2 + "\n", "0123456789abcdef" * 2), ("uninitialized\n", ""), ("", "")],
)
def test_the_id_of_a_machine_has_32_hexadecimal_digits(tmp_path, monkeypatch, text, machine):
    path = tmp_path / "machine-id"
    path.write_text(text)
    monkeypatch.setattr(module, "_MACHINE_ID", path)
    assert module._machine() == machine
    monkeypatch.setattr(module, "_MACHINE_ID", tmp_path / "none")
    assert module._machine() == ""


def test_the_machine_started_before_this_process():
    assert 0 < uptime_s() < time.time()
