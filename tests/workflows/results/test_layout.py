"""Paths in a folder of results."""

from noctile.workflows.results.layout import ResultsFolder


def test_a_slide_is_under_way_in_staging_once_its_plan_is_there(tmp_path):
    results = ResultsFolder(tmp_path)
    assert results.under_way("a") == results.slide("a")
    results.staged("a").path.mkdir(parents=True)
    results.staged("a").plan.touch()
    assert results.under_way("a") == results.staged("a")


def test_names_on_disk(tmp_path):
    results = ResultsFolder(tmp_path)
    folder = results.slide("a")
    names = [folder.block_stats((3, 14)), folder.block_stats_file, results.failure_report("a")]
    assert [str(path.relative_to(tmp_path)) for path in names] == [
        "slides/a/blocks/3.14.json",
        "slides/a/blocks.json",
        "failures/a.txt",
    ]
