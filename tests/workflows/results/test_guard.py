"""Checks that a run replaces no file that no run has written."""

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.results.files import write_json
from noctile.workflows.results.guard import check_free, check_manifest
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.ledger import Ledger


@pytest.fixture
def results(tmp_path) -> ResultsFolder:
    return ResultsFolder(tmp_path)


@pytest.mark.parametrize("name", ["columns.json", "plan.csv", "slides.csv", "slides.parquet"])
def test_a_table_of_the_user_is_not_replaced(results, name):
    (results.path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"holds {name}, and no run of noctile"):
        check_free(results)


def test_a_folder_of_the_user_is_not_written_to_unless_it_is_empty(results):
    results.slides.mkdir()
    check_free(results)
    (results.slides / "a.tif").touch()
    with pytest.raises(UsageError, match="a folder slides that is not empty"):
        check_free(results)


def test_the_results_of_a_run_are_replaced(results):
    Ledger(results.ledger).close()
    for path in (results.cohort_csv, results.plan_table):
        path.write_text("of a run")
    check_free(results)


def test_a_table_of_regions_that_no_run_has_written_is_refused(results):
    Ledger(results.ledger).close()
    results.regions_csv.write_text("mine")
    for columns in ({}, {"columns": []}):
        write_json(results.columns_json, columns)
        with pytest.raises(UsageError, match=r"holds regions\.csv, which noctile"):
            check_free(results)
    write_json(results.columns_json, {"columns": [], "regions": []})
    check_free(results)


def test_a_run_whose_ledger_is_lost_is_known_by_its_record(results):
    write_json(results.run_record("r"), {"settings": {}, "model": {}, "versions": {}})
    results.cohort_csv.write_text("of a run")
    check_free(results)


def test_a_manifest_that_a_run_would_replace_is_refused(results):
    manifest = results.path / "slides.csv"
    manifest.write_text("slide_id,path\n")
    with pytest.raises(UsageError, match="rename it"):
        check_manifest(manifest, results.path)
    check_manifest(None, results.path)
    check_manifest(manifest, results.path / "elsewhere")


@pytest.mark.parametrize("name", ["review", "review.csv"])
def test_reviews_that_no_run_has_written_are_refused(results, name):
    path = results.path / name
    if name == "review":
        path.mkdir()
        check_free(results)
        path /= "a.geojson"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"holds (review\.csv|a folder review)"):
        check_free(results)


def test_a_link_in_place_of_the_reviews_is_refused(results, tmp_path_factory):
    results.review.symlink_to(tmp_path_factory.mktemp("outside"))
    with pytest.raises(UsageError, match="review is a link"):
        check_free(results)
