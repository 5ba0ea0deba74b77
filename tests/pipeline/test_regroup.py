"""Other classes for a label map: groups files, merged labels, thresholds on the tumor map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.regroup import (
    EXAMPLE,
    Groups,
    Regrouping,
    check_names,
    confidence_is_known,
    parse_groups,
    regrouping,
    tumor_map_is_known,
)

CLASSES = [
    ClassInfo(code=5, name="fat", color=(5, 5, 5), role="tissue"),
    ClassInfo(code=2, name="stroma", color=(2, 2, 2), role="tissue"),
    ClassInfo(code=20, name="dcis", color=(20, 20, 20), role="tumor"),
    ClassInfo(code=1, name="tumor", color=(1, 1, 1), role="tumor"),
]
NAMES = [info.name for info in CLASSES]


def groups(text: str) -> Groups:
    return parse_groups(text, "groups.toml")


def change(text: str, **about: bool) -> Regrouping:
    return regrouping(groups(text), CLASSES, **about)


def group(name: str, *old: str, more: str = "") -> str:
    return f'[[classes]]\nname = "{name}"\nfrom = {list(old)}\n{more}\n'


KEEP = 'rest = "keep"\n'
TUMORS = group("tumor", "tumor", "dcis")


def test_a_new_class_stands_at_the_place_of_its_first_one_with_the_smallest_code():
    merged = change(KEEP + group("soft", "stroma", "fat") + TUMORS)
    assert [(c.name, c.code, c.color, c.role) for c in merged.classes] == [
        ("soft", 2, (5, 5, 5), "tissue"),
        ("tumor", 1, (20, 20, 20), "tumor"),
    ]
    assert merged.sources == {"soft": ("fat", "stroma"), "tumor": ("dcis", "tumor")}
    assert merged.codes == {5: 2, 2: 2, 20: 1, 1: 1}
    assert not merged.keeps_confidence
    assert merged.same_tumor
    assert merged.flags == []


def test_the_file_gives_colour_role_and_code():
    about = 'color = [1, 2, 3]\nrole = "ignore"\ncode = 9'
    new = change(KEEP + group("soft", "fat", more=about)).classes[0]
    assert new == ClassInfo(code=9, name="soft", color=(1, 2, 3), role="ignore")


def test_a_new_name_alone_keeps_the_confidence():
    assert change(KEEP + group("lipid", "fat")).keeps_confidence


@given(st.lists(st.sampled_from([0, 1, 2, 5, 20]), min_size=1), st.integers(0, 255))
def test_merging_is_a_table_of_labels(labels, tumor):
    merged = change(KEEP + group("soft", "stroma", "fat") + TUMORS)
    stored, table = np.array([labels], np.uint8), np.zeros(256, np.uint8)
    table[[5, 2, 20, 1]] = 2, 2, 1, 1
    tumor_map = np.full((1, -(-len(labels) // 8)), tumor, np.uint8)
    assert np.array_equal(merged.labels(stored, tumor_map), table[stored])


def test_a_label_that_is_no_class_is_an_error():
    with pytest.raises(ValueError, match=r"\[7\]"):
        change(KEEP + TUMORS).labels(np.array([[7]], np.uint8), np.zeros((1, 1), np.uint8))


class TestThreshold:
    TEXT = KEEP + '[tumor]\nthreshold = 0.35\nabove = "tumor"\nbelow = "stroma"\n'

    def test_whole_cells_change_sides(self):
        stored = np.tile(np.array([0, 2, 1, 20], np.uint8), (10, 5))  # 2 x 3 cells, some cut
        tumor_map = np.array([[89, 90, 255], [90, 0, 89]], np.uint8)  # 0.35 x 255 = 89.25
        found = change(self.TEXT).labels(stored, tumor_map)
        above = (tumor_map >= 90).repeat(8, 0).repeat(8, 1)[:10, :20]
        is_tumor = np.isin(stored, (1, 20))
        expected = np.where(above & ~is_tumor, 1, np.where(~above & is_tumor, 2, stored))
        assert np.array_equal(found, np.where(stored == 0, 0, expected))

    def test_the_names_of_the_tumor_classes_say_so(self):
        found = change(self.TEXT)
        assert list(found.sources) == ["fat", "stroma", "dcis_map_0_35", "tumor_map_0_35"]
        assert found.flags == ["tumor_from_heat_map"]
        assert not found.keeps_confidence

    def test_single_classes_need_no_name(self):
        text = group("tumor", "tumor", "dcis") + group("other", "fat", "stroma")
        threshold = change(text + "[tumor]\nthreshold = 0.5\n").threshold
        assert threshold is not None
        assert (threshold.above, threshold.below, threshold.least) == (1, 2, 128)

    @pytest.mark.parametrize(("probability", "least"), [(0.004, 2), (0.2, 51), (1.0, 255)])
    def test_the_limit_is_the_first_value_that_reaches_it(self, probability, least):
        text = f'[tumor]\nthreshold = {probability}\nabove = "tumor"\nbelow = "fat"\n'
        threshold = change(text).threshold
        assert threshold is not None
        assert threshold.least == least

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[tumor]\nthreshold = 0.5\n", r"above is missing; name .*: dcis, tumor$"),
            ('[tumor]\nthreshold = 0.5\nabove = "tumr"\n', r"did you mean 'tumor'\?"),
            ('[tumor]\nthreshold = 0.5\nabove = "tumor"\n', r"below is missing; .*: fat, stroma$"),
            (
                KEEP + group("x", "dcis", more='role = "tissue"') + "[tumor]\nthreshold = 0.5\n",
                "model's own tumor classes",
            ),
        ],
    )
    def test_what_it_needs_is_named(self, text, message):
        with pytest.raises(UsageError, match=message):
            change(text)

    def test_it_needs_a_tumor_map_of_the_tumor_classes(self):
        with pytest.raises(UsageError, match="tumor map"):
            change(self.TEXT, tumor_map_is_known=False)


def test_other_tumor_classes_are_flagged():
    found = change(KEEP + group("benign", "dcis", more='role = "tissue"'))
    assert found.flags == ["other_tumor_classes"]
    assert not found.same_tumor


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (KEEP + group("mixed", "fat", "tumor"), "'mixed' needs a role: .*tissue and tumor"),
        (KEEP + group("fat", "stroma"), "add 'fat' to its 'from'"),
        (KEEP + group("x", "fat", more="code = 2"), "x and stroma have the same code"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        change(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither"),
        (TUMORS + group("x", "tumor"), "twice: tumor"),
        (group("x", "fat") + group("x", "dcis"), "new class twice: x"),
        ('rest = "drop"\n' + TUMORS, "rest must be 'keep' or 'refuse'"),
        ('[[classes]]\nname = "x"\n', "from is missing"),
        (group("1x", "fat"), "a letter first"),
        ("[tumor]\nthreshold = 0\n", "must be 0.004 or more"),
        ("[tumor]\nthreshold = nan\n", "finite"),
        ("[tumor]\ntreshold = 0.5\n", "did you mean 'tumor.threshold'"),
        ("[[classes]", "groups file groups.toml cannot be used"),
        (f"x = {'[' * 200}{']' * 200}", "nested"),
    ],
)
def test_a_wrong_file_is_refused_with_every_fault_named(text, message):
    with pytest.raises(UsageError, match=message):
        groups(text)


def test_the_example_is_a_groups_file():
    assert groups(EXAMPLE.partition("\n")[2]).classes[0].sources == ("tumor", "dcis")


class TestNames:
    def test_an_unknown_name_gets_the_nearest_one(self):
        with pytest.raises(UsageError, match=r"no class 'stromma'; did you mean 'stroma'\?"):
            check_names(groups(group("x", "stromma")), NAMES)

    def test_classes_that_are_left_over_are_refused(self):
        with pytest.raises(UsageError, match=r'for fat, stroma; .*rest = "keep"'):
            check_names(groups(TUMORS), NAMES)

    def test_classes_that_are_left_over_stay_if_the_file_says_so(self):
        check_names(groups(KEEP + TUMORS), NAMES)
        assert [c.name for c in change(KEEP + TUMORS).classes] == ["fat", "stroma", "tumor"]

    def test_a_threshold_alone_keeps_all_classes(self):
        check_names(groups("[tumor]\nthreshold = 0.5\n"), NAMES)


def test_a_mask_says_if_its_maps_belong_to_its_classes():
    assert confidence_is_known({})
    assert tumor_map_is_known({"regrouped": None})
    about = {"regrouped": {"confidence_is_known": False, "tumor_map_is_known": False}}
    assert not confidence_is_known(about)
    assert not tumor_map_is_known(about)
