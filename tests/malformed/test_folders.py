"""Folders, links and file names that do damage."""

import os
from pathlib import Path

import pytest
from malformed.calls import ids
from malformed.limits import within_limits
from malformed.refusals import refusal

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.names import fold_name


class TestFolders:
    def test_a_link_out_of_the_folder_is_followed(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere.svs").touch()
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.svs").touch()
        (tmp_path / "in" / "b.svs").symlink_to(tmp_path / "elsewhere.svs")
        assert ids(tmp_path / "in" / "b.svs") == ["b"]
        assert ids(tmp_path / "in" / "*.svs") == ids(tmp_path / "in") == ["a", "b"]

    def test_a_link_inside_the_folder_is_the_file_that_it_leads_to(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").touch()
        (tmp_path / "b.svs").symlink_to("a.svs")
        assert ids(tmp_path) == ["a"]

    @pytest.mark.parametrize("argument", [".", "**/*.svs", "**", "*"])
    def test_circles_of_links_end(self, tmp_path: Path, argument: str) -> None:
        (tmp_path / "a.svs").touch()
        # The system allows 40 links in a path, so that there are 3^40 paths.
        for name in ("one", "two", "three"):
            (tmp_path / name).symlink_to(tmp_path)
        (tmp_path / "self.svs").symlink_to("self.svs")
        assert within_limits(ids, tmp_path / argument) == ["a"]

    @pytest.mark.parametrize("argument", [".", "*", "**", "*.svs", "gone.svs", "round.svs"])
    def test_only_broken_links_are_an_error(self, tmp_path: Path, argument: str) -> None:
        (tmp_path / "gone.svs").symlink_to("nothing")
        (tmp_path / "round.svs").symlink_to("round.svs")
        with pytest.raises(UsageError, match=r"no slides: .*\.svs is left out: the link leads"):
            ids(tmp_path / argument)

    def test_a_broken_link_prints_no_control_characters(self, tmp_path: Path) -> None:
        (tmp_path / "a\x1b[2J.svs").symlink_to("nothing\n")
        with pytest.raises(UsageError, match="left out") as error:
            ids(tmp_path)
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        "name", ["a" * 5000, "~nobody-of-that-name/a.svs", "a\0b.svs", "*" * 300, "[", "a**b"]
    )
    def test_names_that_no_file_can_have_are_usage_errors(self, name: str) -> None:
        assert "\0" in name or name[:20] in refusal(ids, name)

    def test_a_name_that_is_not_utf8_is_a_usage_error(self, tmp_path: Path) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.svs")).touch()
        with pytest.raises(UsageError, match=r"caf\\udce9\.svs is left out: its path is not UTF-8"):
            ids(tmp_path)

    @pytest.mark.parametrize("char", ["\n", "\r", "\x1b[2J", "\x7f", "\u2028"])
    def test_a_name_with_control_characters_is_a_usage_error(
        self, tmp_path: Path, char: str
    ) -> None:
        (tmp_path / f"a{char}b.svs").touch()
        with pytest.raises(UsageError, match="control character") as error:
            ids(tmp_path)
        assert char not in str(error.value)

    @pytest.mark.parametrize(
        "stem",
        ["\U0001f600", "a" * 250, "CON", "nul.x", "com1", "a:b", "a|b", "x.", "..x", "é" * 120],
    )
    def test_any_other_name_becomes_an_id_that_can_name_a_folder(
        self, tmp_path: Path, stem: str
    ) -> None:
        (tmp_path / f"{stem}.svs").touch()
        (found,) = ids(tmp_path / f"{stem}.svs")
        assert len(found.encode()) <= 128
        assert not set(found) & set('/\\<>:"|?*')
        assert found.partition(".")[0].upper() not in {"CON", "NUL", "COM1"}
        assert not found.endswith(".")
        (tmp_path / found).mkdir()

    def test_names_that_differ_only_in_case_or_composition_get_ids_that_differ(
        self, tmp_path: Path
    ) -> None:
        for name in ("Slide", "slide", "caf\u00e9", "cafe\u0301"):
            (tmp_path / f"{name}.svs").touch()
        assert len({fold_name(slide_id) for slide_id in ids(tmp_path)}) == 4

    def test_a_file_named_like_the_id_of_another_gets_an_id_of_its_own(
        self, tmp_path: Path
    ) -> None:
        for name in ("x/a", "y/a", "x_a", "y_a"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / f"{name}.svs").touch()
        assert len(set(ids(tmp_path))) == 4
