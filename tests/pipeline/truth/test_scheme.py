"""Codes of masks become classes of a scheme."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.truth.scheme import BCSS_CODES, BUILT_IN, IGNORED, load_scheme

MINE = """
name = "mine"
ignore = [7]

[[classes]]
code = 1
name = "tumor"
color = [200, 30, 45]
role = "tumor"
from = [1, 19]

[[classes]]
code = 2
name = "rest"
color = [0, 0, 255]
role = "tissue"
from = [30, 2]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def targets(name: str, *codes: int) -> list[int]:
    return load_scheme(name).targets(np.array(codes, np.uint8), "here").tolist()


class TestBuiltIn:
    def test_bcss21_has_one_class_for_each_code_but_0(self) -> None:
        scheme = load_scheme("bcss21")
        assert [info.code for info in scheme.classes] == list(range(1, 22))
        assert targets("bcss21", *range(22)) == [IGNORED, *range(21)]

    def test_the_names_are_those_of_the_official_table(self, shared_data: Path) -> None:
        with (shared_data / "bcss" / "gtruth_codes.tsv").open() as file:
            official = {
                row["label"]: int(row["GT_code"]) for row in csv.DictReader(file, delimiter="\t")
            }
        assert official == BCSS_CODES

    def test_bcss21_has_three_tumor_classes_and_leaves_exclude_and_undetermined_out(
        self,
    ) -> None:
        roles = {info.code: info.role for info in load_scheme("bcss21").classes}
        assert [code for code, role in roles.items() if role == "tumor"] == [1, 19, 20]
        assert [code for code, role in roles.items() if role == "ignore"] == [7, 15]

    def test_bcss5_groups_as_the_challenge_does(self) -> None:
        names = [info.name for info in load_scheme("bcss5").classes]
        assert names == ["tumor", "stroma", "inflammatory", "necrosis", "other"]
        assert targets("bcss5", 1, 19, 20, 2, 3, 10, 11, 4) == [0, 0, 0, 1, 2, 2, 2, 3]
        assert targets("bcss5", 5, 6, 8, 9, 12, 13, 14, 16, 17, 18, 21) == [4] * 11
        assert targets("bcss5", 0, 7, 15) == [IGNORED] * 3

    def test_the_tumor_scheme_has_tumor_and_all_other_codes(self) -> None:
        assert [info.role for info in load_scheme("tumor").classes] == ["tumor", "tissue"]
        assert targets("tumor", 1, 19, 20, 2, 9, 21) == [0, 0, 0, 1, 1, 1]
        assert targets("tumor", 0, 7, 15) == [IGNORED] * 3

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_each_knows_every_official_code_and_no_other(self, name: str) -> None:
        assert sorted(load_scheme(name).sources) == sorted(BCSS_CODES.values())

    @pytest.mark.parametrize("name", BUILT_IN)
    def test_each_scheme_is_read_back_from_its_file(self, name: str, tmp_path: Path) -> None:
        assert load_scheme(write(tmp_path, load_scheme(name).to_toml())) == load_scheme(name)

    def test_a_scheme_travels_to_other_processes(self) -> None:
        scheme = load_scheme("bcss5")
        assert pickle.loads(pickle.dumps(scheme)) == scheme


class TestTargets:
    def test_unknown_codes_are_named_with_their_pixels_and_the_mask(self) -> None:
        codes = np.array([[1, 22], [22, 200]], np.uint8)
        with pytest.raises(
            UsageError, match=r"^mask a.png: .*bcss5.* 22 \(2 px\), 200 \(1 px\); it knows 0 to 21"
        ):
            load_scheme("bcss5").targets(codes, "mask a.png")

    def test_many_unknown_codes_do_not_flood_the_message(self) -> None:
        with pytest.raises(UsageError, match="and 192 more"):
            load_scheme("tumor").targets(np.arange(22, 222, dtype=np.uint8), "mask a.png")


class TestOwnFile:
    def test_codes_are_grouped_as_in_the_file(self, tmp_path: Path) -> None:
        assert targets(write(tmp_path, MINE), 1, 19, 30, 2, 7) == [0, 0, 1, 1, IGNORED]

    def test_code_0_is_ignored_by_default(self, tmp_path: Path) -> None:
        assert targets(write(tmp_path, MINE), 0) == [IGNORED]

    def test_code_0_is_a_class_if_the_file_names_it(self, tmp_path: Path) -> None:
        assert targets(write(tmp_path, MINE.replace("[30, 2]", "[0]")), 0, 1) == [1, 0]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("from = [30, 2]", "from = [30, 19]", r"stands twice: \[19\]"),
            ("ignore = [7]", "ignore = [2]", r"stands twice: \[2\]"),
            ('name = "rest"', 'name = "tumor"', r"class name stands twice: \['tumor'\]"),
            ("code = 2", "code = 1", r"class code stands twice: \[1\]"),
            ("code = 2", "code = 0", r"classes\.1\.code must be 1 or more; found 0"),
            ("from = [30, 2]", "from = [300]", r"classes\.1\.from\.0.*255"),
            ("from = [30, 2]", "from = []", r"classes\.1\.from"),
            ("from = [30, 2]", "", r"classes\.1\.from is missing"),
            ('role = "tissue"', 'role = "tissues"', r"classes\.1\.role"),
            ("ignore = [7]", "ignored = [7]", r"ignored is unknown; did you mean 'ignore'\?"),
            ("ignore = [7]", "ignore = 7]", "Invalid|Expected"),
        ],
    )
    def test_a_wrong_setting_is_named(
        self, tmp_path: Path, old: str, new: str, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            load_scheme(write(tmp_path, MINE.replace(old, new)))

    def test_one_class_is_no_scheme(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"classes must have 2 or more values"):
            load_scheme(write(tmp_path, MINE[: MINE.rindex("[[classes]]")]))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"none\.toml"):
            load_scheme(str(tmp_path / "none.toml"))

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(UsageError, match=r"bcss22.*bcss21, bcss5, tumor"):
            load_scheme("bcss22")
