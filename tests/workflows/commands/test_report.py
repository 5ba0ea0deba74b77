"""``noctile report``."""

import numpy as np
import pytest
from label_results import write_result

from noctile.pipeline.errors import UsageError
from noctile.workflows.commands.report import report_results


def test_the_page_of_a_folder_is_written(tmp_path):
    write_result(tmp_path, np.ones((96, 96), np.uint8), "s1")
    assert report_results(tmp_path) == {"done": 1}
    assert "s1" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_page_of_others_is_an_error_with_a_remedy(tmp_path):
    write_result(tmp_path, np.ones((96, 96), np.uint8), "s1")
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UsageError, match="move it away"):
        report_results(tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no results"):
        report_results(tmp_path)
