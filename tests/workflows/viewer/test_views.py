import gc
import os
import shutil
import threading
from pathlib import Path

import pytest

from noctile.pipeline.errors import SlideNotDoneError, StoreError
from noctile.workflows.commands.opened import open_results
from noctile.workflows.commands.opened_slide import SlideResult
from noctile.workflows.viewer.images import FileImage, OverviewImage
from noctile.workflows.viewer.listing import Listing
from noctile.workflows.viewer.views import Views


@pytest.fixture
def slide(viewed, tmp_path):
    """A copy of the slide's file."""
    return shutil.copy2(viewed / "slides" / "a.tif", tmp_path / "a.tif")


@pytest.fixture
def views(own, slide) -> Views:
    """Views of the results, whose table names the copy as the slide's file."""
    results = open_results(own)
    listing = Listing(results)
    listing.path_of = lambda slide_id: str(slide)
    return Views(results, listing)


def test_a_slide_is_shown_from_its_file(views, slide):
    view = views.get("a")
    assert (view.source, view.notice, str(view.path)) == ("slide", "", str(slide))
    assert isinstance(view.image, FileImage)


def test_without_a_path_in_the_table_that_of_the_result_is_taken(views, viewed):
    views._listing.path_of = lambda slide_id: ""
    view = views.get("a")
    assert view.path == viewed / "slides" / "a.tif"


def test_a_moved_slide_is_shown_as_overview_with_a_notice(monkeypatch, views, slide):
    first = views.get("a")
    Path(slide).unlink()
    monkeypatch.setattr(SlideResult, "summary", first.result.summary | {"path": str(slide)})
    view = views.get("a")
    assert (view.source, type(view.image)) == ("overview", OverviewImage)
    assert view.notice.startswith(f"There is no file {slide}. The overview")
    assert view.version != first.version


def test_a_changed_slide_is_shown_as_overview_with_a_notice(views, slide):
    first = views.get("a")
    with Path(slide).open("r+b") as file:
        file.seek(Path(slide).stat().st_size // 2)
        file.write(bytes(40_000))
    view = views.get("a")
    assert view.source == "overview"
    assert "its content differs" in view.notice
    assert view.version != first.version


def test_a_slide_that_cannot_be_read_is_shown_as_overview(views, slide):
    with Path(slide).open("wb") as file:
        file.write(b"II*\0 no slide")
    assert views.get("a").notice.startswith("The slide's file cannot be read.")


def test_a_slide_that_comes_back_is_shown_again(views, slide, viewed):
    with Path(slide).open("wb") as file:
        file.write(b"II*\0 no slide")
    assert views.get("a").source == "overview"
    shutil.copy2(viewed / "slides" / "a.tif", slide)
    assert views.get("a").source == "slide"


def test_a_replaced_result_is_noticed(views, own):
    first = views.get("a")
    assert views.get("a") is first
    summary = own / "slides" / "a" / "summary.json"
    os.utime(summary, ns=(1, 1))
    assert views.get("a") is not first
    assert views.get("a").version != first.version


def test_slides_without_a_result_are_named_with_their_status(views):
    with pytest.raises(SlideNotDoneError, match=r"failed.*unopenable"):
        views.get("broken")


@pytest.mark.parametrize("name", ["../results", "a/../a", "", ".", "a\0", "..\\a"])
def test_no_name_of_a_slide_leads_out(views, name):
    with pytest.raises(SlideNotDoneError):
        views.get(name)


def test_a_link_in_place_of_a_result_is_not_followed(views, own):
    (own / "slides" / "b").symlink_to(own / "slides" / "a")
    with pytest.raises(SlideNotDoneError):
        views.get("b")


def test_a_damaged_result_is_named(views, own):
    (own / "slides" / "a" / "tiles.parquet").unlink()
    with pytest.raises(StoreError, match=r"tiles\.parquet is missing"):
        views.get("a")


def test_several_threads_get_the_same_view(views):
    got = []
    threads = [threading.Thread(target=lambda: got.append(views.get("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, got))) == 1


def test_the_slide_is_closed_when_no_one_uses_it(views, own):
    reader = views.get("a").image._reader
    os.utime(own / "slides" / "a" / "summary.json", ns=(1, 1))
    views.get("a")
    gc.collect()
    with pytest.raises(ValueError, match="closed"):
        reader.read(reader.info.frame.box, 8.0)


def test_the_foci_are_those_of_the_summary(views):
    view = views.get("a")
    frame, foci = view.foci()
    assert len(foci) == view.result.summary["tumor_foci"]
    assert round(foci[0].area_mm2, 6) == view.result.summary["largest_focus_mm2"]
    assert frame.box.contains(foci[0].box)
