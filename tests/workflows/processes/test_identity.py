"""Process identity: the same process, a later one with its number, one of another machine."""

import subprocess
import sys
from dataclasses import replace

import pytest

from noctile.workflows.processes.identity import ProcessIdentity

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
