"""The measured regions are those of a side of the split of the model's training."""

from pathlib import Path

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.truth.region import Region
from noctile.pipeline.truth.selection import choose_regions

SPLIT = """region_id,patient,side
a,A,train
b,B,val
c,C,test
"""


def region(name: str, patient: str, institute: str = "") -> Region:
    return Region(name, patient, institute, "s", image=Path(), truth=Path())


KNOWN = [region("c", "C"), region("b", "B"), region("a", "A")]


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    path = tmp_path / "split.csv"
    path.write_text(SPLIT)
    return path


@pytest.mark.parametrize(("side", "names"), [("train", "a"), ("val", "b"), ("test", "c")])
def test_a_side_is_that_of_the_split(split_file: Path, side: str, names: str) -> None:
    chosen = choose_regions(KNOWN, split_file, side)
    assert [region.region_id for region in chosen.regions] == list(names)
    assert bool(chosen.notes) == (side != "test")


def test_all_sides_are_sorted_and_seen_regions_are_noted(split_file: Path) -> None:
    chosen = choose_regions(KNOWN, split_file, "all")
    assert [region.region_id for region in chosen.regions] == ["a", "b", "c"]
    assert chosen.notes[0].startswith("2 of these regions trained the model")


def test_an_unlisted_region_is_on_the_side_of_its_patient(split_file: Path) -> None:
    chosen = choose_regions([*KNOWN, region("d", "C"), region("e", "E")], split_file, "test")
    assert [region.region_id for region in chosen.regions] == ["c", "d"]
    assert chosen.notes == ("1 regions that the model's split does not list are left out",)


def test_of_another_data_set_only_unseen_patients_are_measured(split_file: Path) -> None:
    chosen = choose_regions([region("x", "A"), region("y", "Y")], split_file, "test")
    assert [region.region_id for region in chosen.regions] == ["y"]


def test_without_a_split_the_official_test_institutes_are_measured(tmp_path: Path) -> None:
    some = [region("x", "X", "OL"), region("y", "Y", "A1")]
    chosen = choose_regions(some, tmp_path / "split.csv", "test")
    assert [region.region_id for region in chosen.regions] == ["x"]
    assert "may have seen" in chosen.notes[0]


def test_a_side_without_regions_is_refused(split_file: Path) -> None:
    with pytest.raises(UsageError, match="no region is on side val"):
        choose_regions([region("a", "A")], split_file, "val")


def test_a_test_region_of_a_training_patient_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("region_id,patient,side\na,A,train\nc,,test\n")
    with pytest.raises(UsageError, match=r"c is listed as test .* of patient A"):
        choose_regions([region("c", "A")], path, "test")
