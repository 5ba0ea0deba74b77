"""Figures of regions in a summary."""

import json
from dataclasses import replace

import pytest
from roi_files import box, feature, write_roi

from noctile.pipeline.errors import StoreError
from noctile.workflows.jobs.finish import finish_slide
from noctile.workflows.jobs.prepare import prepare_slide
from noctile.workflows.jobs.regions import region_figures
from noctile.workflows.jobs.segment_block import segment_step


@pytest.fixture
def done(job, entry, run, tmp_path):
    """Folder of the slide, confined to one region, and the contents of its plan."""
    roi = write_roi(tmp_path / "roi.geojson", feature(box(300, 300, 400, 300), name="A"))
    confined = replace(entry, roi=roi)
    for block in prepare_slide(replace(job("prepare"), entry=confined)).blocks:
        segment_step(replace(job("segment", block), entry=confined))
    finish_slide(replace(job("finish"), entry=confined))
    folder = run.results.slide("a")
    return folder, json.loads(folder.plan.read_text())


def test_a_summary_has_them(done):
    folder, described = done
    found = region_figures(folder, described)
    summary = json.loads(folder.summary.read_text())
    assert list(found) == ["roi_given", "roi_area_mm2", "regions"]
    assert {name: summary[name] for name in found} == found
    assert summary["roi_area_mm2"] == summary["regions"][0]["region_area_mm2"] == 0.03
    assert summary["tissue_area_mm2"] == summary["regions"][0]["tissue_area_mm2"]


def test_damaged_regions_are_named(done):
    folder, described = done
    folder.roi.write_text("{}")
    with pytest.raises(StoreError, match=r"roi\.geojson cannot be read"):
        region_figures(folder, described)


def test_a_slide_that_is_not_confined_has_none(done):
    folder, described = done
    assert region_figures(folder, {**described, "confined": {}}) == {}
