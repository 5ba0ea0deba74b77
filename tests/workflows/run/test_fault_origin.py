"""Origin of a failure: the slide, the disk with the slides, or the disk with the results."""

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from run_programs import mounted

from noctile.pipeline.slides.discover import SlideEntry
from noctile.pipeline.slides.storage import Probe
from noctile.workflows.engines.base import OUTPUT_LOST, Failure
from noctile.workflows.results.lease import Lease
from noctile.workflows.run import fault_origin as module
from noctile.workflows.run.fault_origin import FaultOrigin, blamed, stays_failed

UNOPENABLE = Failure("unopenable", "no such file")


def never(reason: str) -> None:
    raise AssertionError(reason)


@pytest.fixture
def lease(tmp_path):
    (tmp_path / "out").mkdir()
    with closing(Lease(tmp_path / "out", never)) as lease:
        yield lease


def origin(lease: Lease, out: Path, *slides: Path) -> FaultOrigin:
    for slide in slides:
        slide.parent.mkdir(parents=True, exist_ok=True)
        slide.touch()
    return FaultOrigin(
        [SlideEntry(slide.stem, slide, None, None, None, ()) for slide in slides], out, lease
    )


def test_a_missing_slide_or_folder_of_one_slide_is_the_slides_failure(lease, tmp_path):
    a, b, c = tmp_path / "in" / "a.tif", tmp_path / "in" / "b.tif", tmp_path / "in" / "c" / "c.tif"
    known = origin(lease, tmp_path / "out", a, b, c)
    a.unlink()
    assert known.not_the_slide(UNOPENABLE, a) is None
    shutil.rmtree(c.parent)
    assert known.not_the_slide(UNOPENABLE, c) is None


@pytest.mark.parametrize("left", ["an empty folder", "nothing"])
def test_a_missing_folder_of_all_slides_is_no_slides_failure(lease, tmp_path, left):
    a, b = tmp_path / "in" / "a.tif", tmp_path / "in" / "b.tif"
    known = origin(lease, tmp_path / "out", a, b)
    shutil.rmtree(tmp_path / "in")
    if left != "nothing":
        (tmp_path / "in").mkdir()
    assert (
        known.not_the_slide(UNOPENABLE, a)
        == f"the folder of the slides has gone: {tmp_path}/in; mount it again"
    )


def test_a_missing_disk_of_some_slides_is_no_slides_failure(lease, tmp_path):
    if not mounted(tmp_path / "disk", "1m"):
        pytest.skip("no disk can be mounted here: needs root")
    try:
        here, there, deeper = (
            tmp_path / "in" / "a.tif",
            tmp_path / "disk" / "b.tif",
            tmp_path / "disk" / "c" / "c.tif",
        )
        known = origin(lease, tmp_path / "out", here, there, deeper)
        assert known.not_the_slide(UNOPENABLE, there) is None
    finally:
        os.system(f"umount {tmp_path / 'disk'}")
    for slide in (there, deeper):
        assert (
            known.not_the_slide(UNOPENABLE, slide)
            == f"the disk with {slide} has gone; mount it again"
        )
    here.unlink()
    (here.parent / "other.tif").touch()
    assert known.not_the_slide(UNOPENABLE, here) is None


def test_results_that_cannot_be_written_are_no_slides_failure(lease, tmp_path):
    a = tmp_path / "in" / "a.tif"
    known = origin(lease, tmp_path / "out", a)
    assert known.not_the_slide(Failure(OUTPUT_LOST, "a disk is full"), a) == "a disk is full"
    assert known.not_the_slide(Failure("store", "a shard is damaged"), a) is None
    shutil.rmtree(tmp_path / "out")
    assert "has gone" in (known.not_the_slide(UNOPENABLE, a) or "")


def test_only_failures_of_the_slides_own_file_stay_in_the_next_run():
    own = ("unopenable", "unreadable", "unreadable_tissue", "mpp_missing", "mpp_implausible")
    assert all(map(stays_failed, (*own, "timeout", "out_of_memory", "worker_died")))
    others = ("store", "internal_error", "engine", "engine_lost", "output_lost", "storage")
    assert not any(map(stays_failed, (*others, "missing", "changed_while_read")))


NO_ANSWER = Failure("storage", "slide a: no answer", passing=True)


@pytest.fixture
def unreadable(monkeypatch) -> set[str]:
    """Names of the files whose reads fail; a part of a file follows after ``#``."""
    names: set[str] = set()

    def fake(path: Path) -> Probe:
        error = OSError(5, "Input/output error")
        if path.name in names:
            return Probe(8, 8, error)
        return Probe(8, 1, error) if f"{path.name}#part" in names else Probe(8, 0, None)

    monkeypatch.setattr(module, "probe", fake)
    return names


def test_a_file_that_alone_cannot_be_read_is_the_slides_failure(lease, tmp_path, unreadable):
    a, b, c = (tmp_path / "in" / f"{i}.tif" for i in "abc")
    known = origin(lease, tmp_path / "out", a, b, c)
    unreadable.add("a.tif")
    assert known.not_the_slide(NO_ANSWER, a) is None
    assert known.not_the_slide(NO_ANSWER, a, troubled={"b"}) is None  # two bad files of three
    assert blamed(NO_ANSWER).reason == "unreadable"
    assert "copy the file again" in blamed(NO_ANSWER).message


def test_files_that_cannot_be_read_either_show_that_storage_fails(lease, tmp_path, unreadable):
    a, b, c = (tmp_path / "in" / f"{i}.tif" for i in "abc")
    known = origin(lease, tmp_path / "out", a, b, c)
    unreadable.add("c.tif#part")
    assert f"{c} cannot be read either" in (known.not_the_slide(NO_ANSWER, a) or "")
    unreadable.clear()
    assert "2 other slides" in (known.not_the_slide(NO_ANSWER, a, troubled={"b", "c"}) or "")


def test_a_single_slide_is_compared_with_its_own_parts(lease, tmp_path, unreadable):
    a = tmp_path / "in" / "a.tif"
    known = origin(lease, tmp_path / "out", a)
    unreadable.add("a.tif#part")
    assert known.not_the_slide(NO_ANSWER, a) is None
    unreadable.add("a.tif")
    assert "no answer; repair the disk" in (known.not_the_slide(NO_ANSWER, a) or "")


def test_other_failures_are_blamed_as_they_are():
    assert blamed(UNOPENABLE) is UNOPENABLE
