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
