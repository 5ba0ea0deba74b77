import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from workflows.engines.base import Failure
from workflows.ledger import Ledger


def write(path: Path) -> None:
    ledger = Ledger(path)
    ledger.prepared("a", "k1", 1.0, fresh=True)
    ledger.segmented("a", "k1", 2.0, (0, 1))
    ledger.segmented("a", "k1", 3.0, (4, 5))
    ledger.failed("prepare", "b", Failure("unreadable", "it does not decode", "Traceback ..."), 0.5)
    ledger.close()


def test_a_later_run_finds_the_blocks_and_the_time_of_an_earlier_one(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.blocks_done("k1") == {(0, 1), (4, 5)}
    assert ledger.seconds("k1") == 6.0
    ledger.close()


def test_another_key_finds_nothing(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.blocks_done("k2") == set()
    ledger.close()


def test_a_slide_planned_afresh_has_no_block_that_stands(tmp_path):
    write(tmp_path / "ledger.jsonl")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.prepared("a", "k1", 1.0, fresh=True)
    ledger.close()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.blocks_done("k1") == set()
    assert ledger.seconds("k1") == 1.0
    ledger.close()


def test_a_failure_keeps_reason_message_and_traceback(tmp_path):
    write(tmp_path / "ledger.jsonl")
    line = json.loads((tmp_path / "ledger.jsonl").read_text().splitlines()[-1])
    assert (line["reason"], line["message"], line["traceback"]) == ("unreadable", "it does not decode", "Traceback ...")


@given(cut=st.integers(0, 600))
def test_cut_anywhere_it_still_opens_and_takes_new_lines(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    write(path)
    path.write_bytes(path.read_bytes()[:cut])
    ledger = Ledger(path)
    before = ledger.blocks_done("k1")
    ledger.segmented("a", "k1", 2.0, (7, 7))
    ledger.close()
    ledger = Ledger(path)
    assert ledger.blocks_done("k1") == before | {(7, 7)}
    ledger.close()
