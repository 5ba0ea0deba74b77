import json
import math
import shutil
import warnings

import pytest

from noctile.workflows.commands.opened import open_results
from noctile.workflows.viewer import listing
from noctile.workflows.viewer.listing import FIELDS, Listing, plain_row


def test_the_list_has_a_row_for_each_slide(viewed):
    rows = Listing(open_results(viewed / "results")).rows()
    assert list(rows) == ["a", "broken"]
    assert rows["broken"]["reason"] == "unopenable"


def test_the_path_of_a_slide_comes_from_the_table(viewed):
    found = Listing(open_results(viewed / "results"))
    assert found.path_of("a") == str(viewed / "slides" / "a.tif")
    assert found.path_of("no such slide") == ""


def test_the_table_is_read_again_when_a_result_comes_or_goes(own, monkeypatch):
    monkeypatch.setattr(listing, "_AT_LEAST_S", 0.0)
    found = Listing(open_results(own))
    assert found.rows()["a"]["status"] == "done"
    shutil.rmtree(own / "slides" / "a")
    found._next_read = 0.0
    assert found.rows()["a"]["status"] != "done"


def test_a_busy_run_does_not_have_the_table_read_at_each_request(own):
    found = Listing(open_results(own))
    first = found.rows()
    with (own / "ledger.jsonl").open("a") as file:
        file.write("\n")
    assert found.rows() is first


def test_an_old_table_is_no_warning(own):
    (own / "slides.parquet").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(Listing(open_results(own)).rows()) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_for_the_browser_is_json_without_nulls_for_texts(value):
    row = plain_row({"slide_id": "a", "tumor_area_mm2": value, "mean_confidence": 0.5})
    assert tuple(row) == FIELDS
    assert (row["tumor_area_mm2"], row["mean_confidence"]) == (None, 0.5)
    assert (row["reason"], row["group"], row["review_status"], row["qc_flags"]) == ("", "", "", [])
    json.dumps(row, allow_nan=False)
