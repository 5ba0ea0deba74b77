from noctile.workflows.engines.base import Failure
from noctile.workflows.results.failures import write_failure_report


def test_a_report_has_reason_message_step_and_traceback(tmp_path):
    path = tmp_path / "failures" / "a.txt"
    failure = Failure("unreadable", "no pixels in \udcff.tif", "Traceback ...")
    write_failure_report(path, "a", "segment of block 0, 1", failure)
    assert path.read_text(encoding="utf-8") == (
        "slide: a\nreason: unreadable\nmessage: no pixels in \\udcff.tif\n"
        "step: segment of block 0, 1\n\nTraceback ..."
    )


def test_text_of_a_stranger_forges_no_line_and_holds_no_escape_sequence(tmp_path):
    path = tmp_path / "failures" / "a.txt"
    failure = Failure("unreadable", "x\x1b[2J\nreason: none", "one\x1b[2J\ntwo")
    write_failure_report(path, "a", "prepare", failure)
    assert path.read_text(encoding="utf-8") == (
        "slide: a\nreason: unreadable\nmessage: x\\x1b[2J\\nreason: none\n"
        "step: prepare\n\none\\x1b[2J\ntwo"
    )
