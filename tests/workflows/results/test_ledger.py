import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.errors import StoreError
from noctile.workflows.engines.base import Failure
from noctile.workflows.results import ledger as ledger_module
from noctile.workflows.results.ledger import SYNC_S, Ledger


def write(path: Path) -> None:
    ledger = Ledger(path)
    ledger.planned("a", "k1", 1.0, fresh=True)
    ledger.segmented("a", "k1", 2.0, (0, 1))
    ledger.segmented("a", "k1", 3.0, (4, 5))
    ledger.failed(
        "prepare", "b", "k9", Failure("unreadable", "it does not decode", "Traceback ..."), 0.5
    )
    ledger.close()


def failure_of(ledger: Ledger, slide_id: str) -> tuple[str, str, str] | None:
    failure = ledger.state.failure(slide_id)
    return failure and (failure.key, failure.reason, failure.message)


def test_a_later_run_finds_the_blocks_and_the_time_of_an_earlier_one(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.state.blocks_done("a", "k1") == {(0, 1), (4, 5)}
    assert ledger.state.seconds("a", "k1") == 6.0
    ledger.close()


def test_a_line_counts_if_its_sync_is_interrupted(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(ledger_module, "SYNC_S", 0.0)
        patch.setattr(Ledger, "_sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.segmented("a", "k1", 2.0, (0, 0))
    assert ledger.state.blocks_done("a", "k1") == {(0, 0)}
    ledger.close()


def interrupted(_: Ledger) -> None:
    raise KeyboardInterrupt


def test_a_result_without_a_record_of_its_end_is_of_the_run_that_made_it(tmp_path):
    """A run was killed between the move of a result and the line of its end."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for run in ("R1", "R2"):
        ledger.started("run", ["a"], "p", run)
        if run == "R1":
            ledger.planned("a", "k1", 1.0, fresh=True)
            ledger.segmented("a", "k1", 1.0, (0, 0))
    assert ledger.state.made_by("a", "k1") == "R1"
    ledger.finished("a", "k1", 0.0)
    assert ledger.state.made_by("a", "k1") == "R1"
    ledger.planned("a", "k2", 1.0, fresh=True)
    assert ledger.state.made_by("a", "k1") == "R1"
    ledger.close()


def test_another_key_finds_nothing(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.state.blocks_done("a", "k2") == set()
    ledger.close()


def test_two_slides_with_the_same_content_have_blocks_and_time_of_their_own(tmp_path):
    """Their keys are the same; a new plan or the end of one must not change the other's blocks."""
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.state.blocks_done("copy of a", "k1") == set()
    ledger.planned("copy of a", "k1", 1.0, fresh=True)
    ledger.segmented("copy of a", "k1", 2.0, (0, 0))
    ledger.finished("copy of a", "k1", 4.0)
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.state.blocks_done("a", "k1") == {(0, 1), (4, 5)}
    assert (ledger.state.seconds("a", "k1"), ledger.state.seconds("copy of a", "k1")) == (6.0, 7.0)
    ledger.close()


def test_a_slide_that_is_planned_from_nothing_has_no_valid_block(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.planned("a", "k1", 1.0, fresh=True)
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.state.blocks_done("a", "k1") == set()
    assert ledger.state.seconds("a", "k1") == 1.0
    ledger.close()


def test_a_failure_keeps_reason_message_and_traceback(tmp_path):
    write(tmp_path / "ledger.jsonl")
    line = json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])
    assert (line["reason"], line["message"], line["traceback"]) == (
        "unreadable",
        "it does not decode",
        "Traceback ...",
    )


def test_the_last_event_of_a_slide_counts(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert failure_of(ledger, "b") == ("k9", "unreadable", "it does not decode")
    assert (ledger.state.failure("a"), ledger.state.attempts("a"), ledger.state.attempts("b")) == (
        None,
        0,
        1,
    )
    ledger.planned("b", "k3", 1.0, fresh=True)
    assert ledger.state.failure("b") is None
    ledger.failed("segment", "b", "k9", Failure("timeout", "too long"), 9.0)
    ledger.failed("segment", "b", "k9", Failure("store", "after that"), 9.0, first=False)
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert failure_of(ledger, "b") == ("k9", "timeout", "too long")
    assert ledger.state.attempts("b") == 2
    ledger.close()


def test_the_blocks_of_a_slide_that_is_done_take_no_memory(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.finished("a", "k1", 1.0)
    assert ledger.state._blocks == {}
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert (ledger.state._blocks, ledger.state.seconds("a", "k1")) == ({}, 7.0)
    ledger.close()


def test_lines_that_are_no_events_are_skipped(tmp_path):
    write(tmp_path / "ledger.jsonl")
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(b'null\n17\n{}\n\x00\x00\x00\x00\n{"event": "segment"}\n[1, 2]\n\xff\xfe\n')
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.state.blocks_done("a", "k1") == {(0, 1), (4, 5)}
    ledger.close()


def test_a_full_disk_is_a_store_error_and_changes_no_state(tmp_path, monkeypatch):
    write(tmp_path / "ledger.jsonl")
    before = (tmp_path / "ledger.jsonl").read_bytes()
    ledger = Ledger(tmp_path / "ledger.jsonl")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("noctile.workflows.results.ledger.os.write", full)
        with pytest.raises(StoreError, match="No space left"):
            ledger.segmented("a", "k1", 1.0, (9, 9))
    assert ledger.state.blocks_done("a", "k1") == {(0, 1), (4, 5)}
    ledger.close()
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


@given(cut=st.integers(0, 600))
def test_a_ledger_that_is_cut_anywhere_still_takes_new_lines(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(path)
    path.write_bytes(path.read_bytes()[:cut])
    ledger = Ledger(path)
    before = ledger.state.blocks_done("a", "k1")
    ledger.segmented("a", "k1", 2.0, (7, 7))
    ledger.close()
    ledger = Ledger(path)
    assert ledger.state.blocks_done("a", "k1") == before | {(7, 7)}
    ledger.close()


def test_a_slide_is_done_under_one_key_until_it_is_planned_under_another(
    tmp_path,
):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.finished("a", "k1", 1.0)
    assert (
        ledger.state.is_done("a", "k1"),
        ledger.state.is_done("a", "k2"),
        ledger.state.is_done("b", "k1"),
    ) == (
        True,
        False,
        False,
    )
    ledger.planned("a", "k2", 1.0, fresh=True)
    assert not ledger.state.is_done("a", "k1")
    ledger.close()


def test_lines_are_synced_together_and_the_last_ones_at_the_end(tmp_path, monkeypatch):
    clock, synced = [0.0], []
    monkeypatch.setattr(ledger_module.time, "monotonic", lambda: clock[0])
    ledger = Ledger(tmp_path / "ledger.jsonl")
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    sizes = []
    for col in range(6):
        clock[0] += SYNC_S / 2
        ledger.segmented("a", "k1", 2.0, (0, col))
        sizes.append((tmp_path / "ledger.jsonl").stat().st_size)
    ledger.finished("a", "k1", 1.0)
    ledger.close()
    assert synced == [sizes[1], sizes[3], sizes[5], (tmp_path / "ledger.jsonl").stat().st_size]


def test_a_new_ledger_and_its_name_are_on_the_disk_before_any_other_file(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda n: synced.append(Path(f"/proc/self/fd/{n}").readlink()))
    Ledger(tmp_path / "ledger.jsonl").close()
    assert synced[:2] == [tmp_path / "ledger.jsonl", tmp_path]
