import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.processes import identity
from noctile.workflows.processes.identity import ProcessIdentity
from noctile.workflows.results import lease as module
from noctile.workflows.results.lease import Lease, read_lease


def nothing(_: str) -> None:
    pass


def leave(out: Path, owner: ProcessIdentity, silent_s: float = 0.0, run: str = "other") -> None:
    """A lease as another run writes it."""
    path = out / "lease.json"
    path.write_text(json.dumps({**asdict(owner), "run": run, "since": "2026-11-22T20:00:00+01:00"}))
    os.utime(path, (time.time() - silent_s,) * 2)


def a_process_that_ended() -> ProcessIdentity:
    code = (
        "from noctile.workflows.processes.identity import ProcessIdentity\n"
        "print(ProcessIdentity.me().to_json())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    owner = ProcessIdentity.from_json(done.stdout)
    assert owner is not None
    return owner


class TestProcessIdentity:
    def test_this_process_is_here_and_alive(self):
        me = ProcessIdentity.me()
        assert me.is_here
        assert not me.is_gone
        assert ProcessIdentity.from_json(me.to_json()) == me

    def test_a_process_that_ended_is_gone(self):
        assert a_process_that_ended().is_gone

    def test_a_reused_process_number_is_another_process(self):
        assert replace(ProcessIdentity.me(), start_s=1.0).is_gone

    def test_a_process_of_another_machine_is_not_known_to_be_gone(self):
        assert not replace(a_process_that_ended(), host="elsewhere").is_gone
        assert not replace(a_process_that_ended(), place="another boot").is_gone

    def test_text_that_is_no_identity_is_none(self):
        assert [
            ProcessIdentity.from_json(text)
            for text in ("", "{}", "[]", '{"host": 1, "place": 2, "pid": "x"}')
        ] == [None] * 4


class TestLease:
    def test_a_lease_names_its_holder_and_is_removed_at_the_end(self, tmp_path):
        lease = Lease(tmp_path, nothing)
        assert lease.held
        holder = read_lease(tmp_path)
        assert holder is not None
        assert holder.owner == ProcessIdentity.me()
        lease.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_second_run_is_refused_and_the_message_names_the_first(self, tmp_path):
        lease = Lease(tmp_path, nothing)
        with pytest.raises(UsageError, match=rf"process {os.getpid()} on .*, since 20\d\d-"):
            Lease(tmp_path, nothing)
        assert lease.held
        lease.close()
        Lease(tmp_path, nothing).close()

    def test_the_lease_of_a_run_that_died_on_this_machine_is_taken_over_at_once(self, tmp_path):
        leave(tmp_path, a_process_that_ended())
        lease = Lease(tmp_path, nothing)
        assert lease.held
        assert lease.taken_from is not None
        assert lease.taken_from.run == "other"
        lease.close()
        assert list(tmp_path.iterdir()) == []

    def test_the_lease_of_another_machine_is_taken_over_after_five_minutes_without_heartbeat(
        self, tmp_path
    ):
        elsewhere = replace(a_process_that_ended(), host="elsewhere")
        leave(tmp_path, elsewhere, silent_s=290)
        with pytest.raises(UsageError, match="on elsewhere"):
            Lease(tmp_path, nothing)
        leave(tmp_path, elsewhere, silent_s=310)
        Lease(tmp_path, nothing).close()

    def test_after_a_restart_the_machine_takes_its_own_lease_over_at_once(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(module, "uptime_s", lambda: 20.0)
        before = replace(a_process_that_ended(), place="another-boot pid:[1]", machine="0" * 32)
        monkeypatch.setattr(identity, "_machine", lambda: "0" * 32)
        leave(tmp_path, before, silent_s=30)
        lease = Lease(tmp_path, nothing)
        assert lease.taken_from is not None
        assert lease.taken_from.owner == before
        lease.close()

    @pytest.mark.parametrize(
        ("change", "silent_s"),
        [
            ({}, 10),  # a heartbeat since this machine started: another machine with its name
            ({"host": "elsewhere"}, 30),
            ({"machine": "1" * 32}, 30),
            ({"machine": ""}, 30),
        ],
    )
    def test_a_machine_that_is_not_surely_this_one_keeps_its_lease_for_five_minutes(
        self, tmp_path, monkeypatch, change, silent_s
    ):
        monkeypatch.setattr(module, "uptime_s", lambda: 20.0)
        here = "" if change.get("machine") == "" else "0" * 32
        monkeypatch.setattr(identity, "_machine", lambda: here)
        values = {"place": "another-boot pid:[1]", "machine": "0" * 32, **change}
        leave(tmp_path, replace(a_process_that_ended(), **values), silent_s)
        with pytest.raises(UsageError, match="another run is writing"):
            Lease(tmp_path, nothing)

    def test_an_unreadable_lease_is_valid_until_its_heartbeat_is_old(self, tmp_path):
        (tmp_path / "lease.json").write_text("{")
        with pytest.raises(UsageError, match="cannot be read"):
            Lease(tmp_path, nothing)
        os.utime(tmp_path / "lease.json", (time.time() - 310,) * 2)
        Lease(tmp_path, nothing).close()

    def test_the_heartbeat_is_the_time_of_the_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
        lease = Lease(tmp_path, nothing)
        os.utime(tmp_path / "lease.json", (1e9, 1e9))
        deadline = time.monotonic() + 10
        while (tmp_path / "lease.json").stat().st_mtime == 1e9 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - (tmp_path / "lease.json").stat().st_mtime < 10
        lease.close()

    @pytest.mark.parametrize("how", ["taken over", "gone"])
    def test_a_run_that_loses_its_lease_is_told_and_does_not_remove_the_new_one(
        self, tmp_path, monkeypatch, how
    ):
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.05)
        told, heard = [], threading.Event()
        lease = Lease(tmp_path, lambda why: (told.append(why), heard.set()))
        if how == "gone":
            (tmp_path / "lease.json").unlink()
        else:
            leave(tmp_path, ProcessIdentity.me(), run="the one after")
        assert heard.wait(10)
        assert not lease.held
        lease.close()
        assert len(told) == 1
        assert (tmp_path / "lease.json").exists() == (how == "taken over")

    def test_one_of_many_runs_takes_over_a_lease(self, tmp_path):
        """Twenty at the same time, on a folder whose run has died."""
        leave(tmp_path, a_process_that_ended())
        held: list[Lease] = []
        start = threading.Barrier(20)

        def attempt() -> None:
            start.wait()
            with suppress(UsageError):
                held.append(Lease(tmp_path, nothing))

        threads = [threading.Thread(target=attempt) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) == 1
        assert held[0].held
        held[0].close()
        assert list(tmp_path.iterdir()) == []

    def test_a_claim_that_is_removed_while_another_run_reads_it_is_no_error(
        self, tmp_path, monkeypatch
    ):
        leave(tmp_path, a_process_that_ended())
        create, claims = module._create, []

        def beaten_once(source: Path, path: Path) -> bool:
            if path.suffix == ".claim" and not claims:
                claims.append(path)
                return False
            return create(source, path)

        monkeypatch.setattr(module, "_create", beaten_once)
        Lease(tmp_path, nothing).close()
        assert claims
        assert list(tmp_path.iterdir()) == []

    def test_a_lease_works_on_a_file_system_without_links(self, tmp_path, monkeypatch):
        def no_links(*_):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr("noctile.workflows.results.lease.os.link", no_links)
        lease = Lease(tmp_path, nothing)
        with pytest.raises(UsageError):
            Lease(tmp_path, nothing)
        lease.close()
        leave(tmp_path, a_process_that_ended())
        Lease(tmp_path, nothing).close()
        assert list(tmp_path.iterdir()) == []

    def test_the_claim_of_a_run_that_died_during_a_takeover_expires(self, tmp_path):
        leave(tmp_path, a_process_that_ended())
        claim = tmp_path / ".lease.other.claim"
        claim.touch()
        with pytest.raises(UsageError, match="just taking"):
            Lease(tmp_path, nothing)
        os.utime(claim, (time.time() - 61,) * 2)
        Lease(tmp_path, nothing).close()
        assert list(tmp_path.iterdir()) == []
