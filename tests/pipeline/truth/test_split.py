"""Splits are by patient and institute, seeded, without leaks, and independent of the order."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from noctile.pipeline.errors import UsageError
from noctile.pipeline.truth.region import Region
from noctile.pipeline.truth.scheme import load_scheme
from noctile.pipeline.truth.split import (
    BCSS_TEST_INSTITUTES,
    SIDES,
    Split,
    SplitSpec,
    check_classes,
    check_leakage,
    class_pixels,
    class_weights,
    make_split,
    read_split,
    write_split,
)

TUMOR = load_scheme("tumor")


def region(
    region_id: str, patient: str, institute: str = "", source: str = "data", **fields: object
) -> Region:
    return Region(
        region_id, patient, institute, source, Path(f"{region_id}.png"), Path("mask.png"), **fields
    )  # type: ignore[arg-type]


def bcss(institutes: dict[str, int], tiles: int = 1) -> list[Region]:
    """Regions with so many patients of each institute, ``tiles`` regions each."""
    return [
        region(f"{institute}-{k}_{tile}", f"{institute}-{k}", institute)
        for institute, patients in institutes.items()
        for k in range(patients)
        for tile in range(tiles)
    ]


def patients(regions: list[Region], split: Split, side: str) -> set[str]:
    return {region.patient for region in split.select(regions, side)}  # type: ignore[arg-type]


MANY = bcss({"OL": 3, "E2": 2, "A1": 4, "A2": 6, "BH": 5, "C8": 3, "AR": 4}, tiles=2)
UNKNOWN = [region(f"r{k}", f"p{k // 2}") for k in range(40)]

a_set = st.lists(
    st.tuples(
        st.integers(0, 15),
        st.sampled_from(["", "OL", "A1", "A2", "BH", "C8", "AR", "D8"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
).map(
    lambda rows: [
        region(f"r{k}", f"{institute}{patient}", institute, "extra" if extra else "data")
        for k, (patient, institute, extra) in enumerate(rows)
    ]
)
a_spec = st.builds(
    SplitSpec,
    by=st.sampled_from(["auto", "institute", "patient"]),
    seed=st.integers(0, 5),
    test_fraction=st.sampled_from([0.0, 0.2, 0.5]),
    val_fraction=st.sampled_from([0.0, 0.15, 0.4]),
)


def split_or_none(regions: list[Region], spec: SplitSpec) -> Split | None:
    """None where there are too few patients, which is an error of its own."""
    try:
        return make_split(regions, spec, ["extra"])
    except UsageError as error:
        assert "no patient is left" in str(error)  # noqa: PT017 - the others are failures
        return None


class TestLaws:
    @given(a_set, a_spec)
    def test_no_patient_is_on_two_sides_and_every_region_on_one(
        self, regions: list[Region], spec: SplitSpec
    ) -> None:
        if split := split_or_none(regions, spec):
            sides = {region.patient: set() for region in regions}
            for one in regions:
                sides[one.patient].add(split.sides[one.region_id])
            assert all(len(found) == 1 for found in sides.values())
            assert "train" in split.sides.values()

    @given(a_set, a_spec, st.randoms(use_true_random=False))
    def test_the_order_of_regions_does_not_matter(
        self, regions: list[Region], spec: SplitSpec, chance: random.Random
    ) -> None:
        shuffled = chance.sample(regions, len(regions))
        assert split_or_none(shuffled, spec) == split_or_none(regions, spec)

    @given(a_set, a_spec)
    def test_extras_and_their_patients_only_train(
        self, regions: list[Region], spec: SplitSpec
    ) -> None:
        if split := split_or_none(regions, spec):
            bound = {region.patient for region in regions if region.source == "extra"}
            assert all(split.sides[r.region_id] == "train" for r in regions if r.patient in bound)

    @given(st.integers(0, 20), st.sampled_from([0.1, 0.2, 0.35]))
    def test_draws_by_patient_have_the_requested_share(self, seed: int, fraction: float) -> None:
        split = make_split(
            UNKNOWN, SplitSpec(seed=seed, test_fraction=fraction, val_fraction=fraction)
        )
        assert len(patients(UNKNOWN, split, "test")) == round(fraction * 20)
        assert len(patients(UNKNOWN, split, "val")) == round(fraction * 20)


class TestDraws:
    def test_another_seed_makes_another_split(self) -> None:
        splits = [make_split(UNKNOWN, SplitSpec(seed=seed)) for seed in (0, 0, 1, 2)]
        assert splits[0] == splits[1]
        assert len({tuple(split.sides.values()) for split in splits}) == 3

    def test_a_seed_means_the_same_split_in_every_version(self) -> None:
        split = make_split(UNKNOWN, SplitSpec(seed=0))
        assert sorted(patients(UNKNOWN, split, "test")) == ["p0", "p14", "p17", "p3"]

    def test_the_official_institutes_are_the_test_side(self) -> None:
        split = make_split(MANY, SplitSpec())
        tested = {region.institute for region in split.select(MANY, "test")}
        assert (
            tested
            == {"OL", "E2"}
            == {region.institute for region in MANY} & set(BCSS_TEST_INSTITUTES)
        )

    def test_many_institutes_are_drawn_as_a_whole_for_validation(self) -> None:
        split = make_split(MANY, SplitSpec())
        sides = {side: {region.institute for region in split.select(MANY, side)} for side in SIDES}
        assert sides["val"]
        assert not sides["val"] & sides["train"]

    def test_few_institutes_are_drawn_by_patient_for_validation(self) -> None:
        few = bcss({"OL": 4, "A1": 20})
        split = make_split(few, SplitSpec())
        assert len(patients(few, split, "val")) == round(0.15 * 24)

    def test_a_split_by_patient_ignores_the_official_institutes(self) -> None:
        split = make_split(MANY, SplitSpec(by="patient", test_fraction=0.3))
        assert len(patients(MANY, split, "test")) == round(0.3 * 27)

    def test_more_patients_hardly_change_a_draw(self) -> None:
        before = make_split(UNKNOWN[:-2], SplitSpec(val=()))
        after = make_split(UNKNOWN, SplitSpec(val=()))
        assert len(patients(UNKNOWN, before, "test") ^ patients(UNKNOWN, after, "test")) <= 2


class TestNames:
    def test_institutes_patients_and_regions_can_be_named(self) -> None:
        split = make_split(MANY, SplitSpec(test=("BH", "A1-0"), val=("A2-3_1",)))
        assert patients(MANY, split, "test") == {*(f"BH-{k}" for k in range(5)), "A1-0"}
        assert patients(MANY, split, "val") == {"A2-3"}

    def test_one_region_can_be_left_out(self) -> None:
        two = [region("1008", "1008"), region("1015", "1015")]
        assert make_split(two, SplitSpec(test=("1015",), val=())).sides == {
            "1008": "train",
            "1015": "test",
        }

    def test_an_unknown_name_is_refused_with_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match=r"test names 'XX'.*known are A1, A1-0"):
            make_split(MANY, SplitSpec(test=("XX",)))

    def test_a_name_on_both_sides_is_refused(self) -> None:
        with pytest.raises(UsageError, match=r"A1-0.* in test and in val"):
            make_split(MANY, SplitSpec(test=("A1",), val=("A1-0",)))

    def test_a_patient_of_an_extra_source_cannot_test(self) -> None:
        regions = [*MANY, region("x", "A1-0", source="extra")]
        with pytest.raises(
            UsageError, match="test names 'A1', but A1-0 has regions in a source for training only"
        ):
            make_split(regions, SplitSpec(test=("A1",)), ["extra"])


class TestNoPatientLeft:
    def test_official_institutes_alone_leave_none_for_training(self) -> None:
        with pytest.raises(UsageError, match=r"left for val: 3 of 3 patients are taken"):
            make_split(bcss({"OL": 3}), SplitSpec())
        with pytest.raises(UsageError, match=r"left for training: 3 are in test.*by = 'patient'"):
            make_split(bcss({"OL": 3}), SplitSpec(val=()))

    def test_two_patients_are_too_few_for_three_sides(self) -> None:
        with pytest.raises(UsageError, match=r"no patient is left for val.*val = \[\]"):
            make_split([region("a", "a"), region("b", "b")], SplitSpec())

    def test_one_patient_is_too_few_for_a_test(self) -> None:
        with pytest.raises(UsageError, match="no patient is left for test"):
            make_split([region("a", "a"), region("b", "a")], SplitSpec())

    def test_two_regions_of_one_name_are_named(self) -> None:
        with pytest.raises(UsageError, match=r"two regions are called a: a\.png and a\.png"):
            make_split([region("a", "a"), region("a", "b", source="other")], SplitSpec())


class TestFile:
    def test_a_split_is_read_back_from_its_file(self, tmp_path: Path) -> None:
        split = make_split(MANY, SplitSpec())
        write_split(tmp_path / "split.csv", MANY[::-1], split)
        lines = (tmp_path / "split.csv").read_text().splitlines()
        assert lines[:2] == [
            "region_id,patient,institute,source,side",
            f"A1-0_0,A1-0,A1,data,{split.sides['A1-0_0']}",
        ]
        assert read_split(tmp_path / "split.csv") == split
        assert make_split(MANY, SplitSpec(file=tmp_path / "split.csv")) == split

    def test_regions_of_other_names_follow_their_patient(self, tmp_path: Path) -> None:
        split = make_split(MANY, SplitSpec())
        write_split(tmp_path / "split.csv", MANY, split)
        tiles = bcss({"OL": 3, "A1": 4}, tiles=5)
        again = make_split(tiles, SplitSpec(file=tmp_path / "split.csv"))
        assert all(again.side(tile) == split.patients[tile.patient] for tile in tiles)

    def test_a_region_without_a_side_is_named(self, tmp_path: Path) -> None:
        write_split(tmp_path / "split.csv", MANY, make_split(MANY, SplitSpec()))
        with pytest.raises(UsageError, match="no side for 1 patients, such as that of new"):
            make_split([*MANY, region("new", "new")], SplitSpec(file=tmp_path / "split.csv"))

    def test_a_leak_in_a_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "split.csv"
        path.write_text("region_id,patient,side\na,P,train\nb,P,test\n")
        with pytest.raises(UsageError, match=r"line 3: P is in test, and in train above"):
            read_split(path)

    def test_a_file_that_tests_on_an_extra_source_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "split.csv"
        path.write_text("region_id,patient,side\na,a,train\nb,b,test\n")
        with pytest.raises(
            UsageError, match=r"b is in test, but its source extra is for training only"
        ):
            make_split(
                [region("a", "a"), region("b", "b", source="extra")],
                SplitSpec(file=path),
                ["extra"],
            )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("region_id,side\na,train\n", r"columns \['region_id', 'side'\]"),
            ("region_id,patient,side\na,a,tset\n", "line 2: side 'tset'"),
            ("", "patient and side are needed"),
        ],
    )
    def test_a_file_that_is_no_split_is_named(
        self, tmp_path: Path, text: str, message: str
    ) -> None:
        (tmp_path / "split.csv").write_text(text)
        with pytest.raises(UsageError, match=rf"split\.csv.*{message}"):
            read_split(tmp_path / "split.csv")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"split\.csv cannot be read"):
            read_split(tmp_path / "split.csv")


class TestLeakage:
    def test_patients_on_two_sides_are_named_with_their_regions(self) -> None:
        tiles = [region("a", "P"), region("b", "P"), region("c", "Q")]
        with pytest.raises(
            UsageError, match=r"(?s)1 patients are on two sides.*P: a in train, b in val"
        ):
            check_leakage(tiles, Split({"a": "train", "b": "val", "c": "train"}))

    def test_a_region_that_left_its_patient_is_named(self) -> None:
        with pytest.raises(UsageError, match="P: a in test, another region in train"):
            check_leakage([region("a", "P")], Split({"a": "test"}, {"P": "train"}))


class TestClasses:
    def test_pixels_are_counted_by_side_and_ignored_ones_are_not(self, tmp_path: Path) -> None:
        values = {"a": [1, 1, 2, 0], "b": [21, 0, 7, 1], "c": [2, 2, 2, 2]}
        regions = []
        for name, codes in values.items():
            Image.fromarray(np.uint8([codes])).save(tmp_path / f"{name}_mask.png")
            Image.fromarray(np.zeros((1, 4, 3), np.uint8)).save(tmp_path / f"{name}.png")
            files = {
                "image": tmp_path / f"{name}.png",
                "truth": tmp_path / f"{name}_mask.png",
                "mpp": 0.5,
            }
            regions.append(Region(name, name, "", "data", **files))  # type: ignore[arg-type]
        counts = class_pixels(regions, Split({"a": "train", "b": "test", "c": "train"}), TUMOR, 0.5)
        assert counts.tolist() == [[2, 5], [0, 0], [1, 1]]

    def test_a_class_without_a_pixel_has_no_weight_and_the_others_a_mean_of_1(self) -> None:
        weights = class_weights(np.array([100, 0, 400, 900]))
        assert weights[1] == 0
        assert weights[[0, 2, 3]].mean() == pytest.approx(1)
        assert weights[0] / weights[2] == pytest.approx(2)
        assert weights[2] / weights[3] == pytest.approx(1.5)

    @given(st.lists(st.integers(0, 10**12), min_size=1, max_size=21))
    def test_rarer_classes_have_larger_weights_within_limits(self, counts: list[int]) -> None:
        weights = class_weights(np.array(counts))
        occurring = [
            (count, weight) for count, weight in zip(counts, weights, strict=True) if count
        ]
        assert [weight for _, weight in sorted(occurring)] == sorted(
            (w for _, w in occurring), reverse=True
        )
        assert not occurring or max(weights) / min(w for _, w in occurring) <= 25 + 1e-9

    def test_an_empty_class_is_named(self) -> None:
        with pytest.raises(
            UsageError, match="1 of 2 classes of scheme tumor have no training pixel: other"
        ):
            check_classes(np.array([5, 0]), TUMOR)
        check_classes(np.array([5, 1]), TUMOR)
