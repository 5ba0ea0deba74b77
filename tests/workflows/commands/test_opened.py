"""Folder of results, opened for a program."""

import os
import shutil
import warnings

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import noctile
from noctile.pipeline.errors import SlideNotDoneError, StoreError, UsageError
from noctile.workflows.commands.report import report_results
from noctile.workflows.results.layout import ResultsFolder
from noctile.workflows.results.report import Report
from noctile.workflows.results.reviews import Reviews


@pytest.fixture
def changed(damaged):
    """Results in which slide b was deleted, so that the table is older than what stands."""
    shutil.rmtree(damaged / "slides" / "b")
    os.utime(damaged / "slides.parquet", ns=(0, 0))
    return damaged


def test_results_are_a_mapping_of_the_slides_that_are_done(results):
    opened = noctile.open(results)
    assert list(opened) == ["a", "b", "glass"]
    assert len(opened) == 3
    assert "a" in opened
    assert "broken" not in opened
    assert {slide_id: slide.slide_id for slide_id, slide in opened.items()} == {
        slide_id: slide_id for slide_id in opened
    }
    assert repr(opened) == f"<Results {results}: 3 slides done>"


def test_a_path_may_be_text(results):
    assert list(noctile.open(str(results))) == list(noctile.open(results))


def test_the_table_has_every_slide_and_is_indexed_by_id(results):
    slides = noctile.open(results).slides
    assert list(slides["slide_id"]) == ["a", "b", "broken", "glass"]
    assert slides.loc["broken", "status"] == "failed"
    assert list(slides.columns) == pq.read_schema(results / "slides.parquet").names
    assert slides["tumor_foci"].dtype == pd.Int64Dtype()
    assert slides.groupby("slide_id").size().sum() == 4  # index and column have different names


def test_a_table_that_is_as_new_as_the_results_is_read_without_a_warning(results):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(noctile.open(results).slides) == 4


def test_a_table_that_is_older_than_the_results_is_made_anew_with_a_warning(changed):
    opened = noctile.open(changed)
    with pytest.warns(UserWarning, match=r"older than the results.*noctile table"):
        slides = opened.slides
    assert slides.loc["a", "status"] == "done"
    assert slides.loc["b", "status"] != "done"
    assert pd.isna(slides.loc["b", "tumor_area_mm2"])


@pytest.mark.parametrize("content", [b"", b"no table"])
def test_a_damaged_table_is_made_anew_with_a_warning(content, damaged, results):
    (damaged / "slides.parquet").write_bytes(content)
    expected = noctile.open(results).slides
    with pytest.warns(UserWarning, match=r"slides\.parquet cannot be read"):
        found = noctile.open(damaged).slides
    pd.testing.assert_frame_equal(found, expected)


def test_a_slide_that_failed_says_why(results):
    with pytest.raises(KeyError, match="broken has no result, its status is failed: unopenable"):
        noctile.open(results)["broken"]


def test_an_unknown_slide_is_a_key_error_that_lists_what_there_is(results):
    with pytest.raises(SlideNotDoneError) as caught:
        noctile.open(results)["nope"]
    assert str(caught.value) == f"{results} knows no slide nope; its 4 slides: a, b, broken, glass"


@pytest.mark.parametrize("slide_id", ["../results/slides/a", "a/../b", "", ".", "a\0"])
def test_no_id_leads_out_of_the_folder(slide_id, results):
    opened = noctile.open(results)
    assert slide_id not in opened
    with pytest.raises(SlideNotDoneError, match="knows no slide"):
        opened[slide_id]


@pytest.mark.parametrize("name", ["slides/a", "slides"])
def test_no_link_is_followed_out_of_the_folder(name, damaged, tmp_path):
    (damaged / name).rename(tmp_path / "elsewhere")
    (damaged / name).symlink_to(tmp_path / "elsewhere")
    assert "a" not in noctile.open(damaged)
    assert "a" not in list(noctile.open(damaged))


def test_a_result_with_a_torn_file_is_not_opened(damaged):
    shard = next((damaged / "slides/a/mask.ome.zarr/labels/classes/0/c").rglob("[0-9]*/[0-9]*"))
    shard.write_bytes(b"")
    with pytest.raises(StoreError, match=r"the result of a is damaged: .* 0 bytes"):
        noctile.open(damaged)["a"]


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no folder; name the --out of a run"):
        noctile.open(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no results of noctile"):
        noctile.open(tmp_path)


def test_a_folder_before_its_first_result_is_empty(damaged):
    shutil.rmtree(damaged / "slides")
    assert list(noctile.open(damaged)) == []


def test_the_table_of_slides_is_also_an_arrow_table(results):
    opened = noctile.open(results)
    table = opened.table()
    assert table.column("slide_id").to_pylist() == list(opened.slides.index)
    assert table.column_names == list(opened.slides.columns)


def test_results_without_regions_of_interest_have_an_empty_table_of_them(results):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regions = noctile.open(results).regions
    assert len(regions) == len(noctile.open(results)["a"].regions) == 0
    areas = [name for name in regions.columns if name.endswith("_area_mm2")]
    names = [name.split("_")[1] for name in areas if name.startswith("class_")]
    assert names == list(noctile.open(results)["a"].area_mm2)


def test_a_table_of_regions_that_noctile_has_not_written_is_not_read(damaged):
    mine = damaged / "regions.parquet"
    pq.write_table(pa.table({"slide_id": ["mine"]}), mine)
    assert len(noctile.open(damaged).regions) == 0
    report_results(damaged)
    assert Report(ResultsFolder(damaged)).write() == ""
    assert pq.read_table(mine).to_pylist() == [{"slide_id": "mine"}]


def test_reviews_are_read_as_they_stand(damaged):
    opened = noctile.open(damaged)
    assert len(opened.reviews) == 0
    assert opened["a"].review.reviews == ()
    os.utime(damaged / "slides.parquet")
    reviews = Reviews(ResultsFolder(damaged))
    reviews.save("a", "ada", "rejected", "a fold", "")
    row = opened.reviews.loc[0]
    assert (row.slide_id, row.reviewer, row.status, row.note) == ("a", "ada", "rejected", "a fold")
    assert opened["a"].review == reviews.of("a")
    with pytest.warns(UserWarning, match="older than the results"):
        assert opened.slides.loc["a", "review_status"] == "rejected"
    assert not (damaged / "review" / ".areas").exists()
