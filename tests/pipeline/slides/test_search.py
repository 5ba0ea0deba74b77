"""Search of folders and globs: links, broken links, circles and unreadable folders."""

import os
import shutil
from pathlib import Path

import pydicom
import pytest
from slide_folders import found, ids, write_manifest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SlideEntry, find_slides
from noctile.pipeline.slides.names import fold_name, slide_id_problem


class TestLinks:
    """On clusters, a cohort is often a folder of links into the archive."""

    @pytest.fixture
    def cohort(self, tmp_path: Path) -> Path:
        folder = tmp_path / "cohort"
        folder.mkdir()
        return folder

    def test_a_folder_of_links_names_slides_after_the_links(
        self, archive: Path, cohort: Path
    ) -> None:
        (cohort / "b.svs").symlink_to(archive / "b.svs")
        (cohort / "case 7.ndpi").symlink_to("../sub/c.ndpi")
        entries, lines = found(cohort)
        assert [(entry.slide_id, entry.path) for entry in entries] == [
            ("b", cohort / "b.svs"),
            ("case 7", cohort / "case 7.ndpi"),
        ]
        assert lines == []

    @pytest.mark.parametrize("argument", ["", "*", "**", "**/*.svs", "link*", "*/?.svs", "linked"])
    def test_a_linked_folder_is_searched(self, tmp_path: Path, cohort: Path, argument: str) -> None:
        (tmp_path / "eight").mkdir()
        for number in range(8):
            (tmp_path / "eight" / f"{number}.svs").touch()
        (cohort / "own.svs").touch()
        (cohort / "linked").symlink_to("../eight")
        entries, lines = found(cohort / argument)
        own = [] if "link" in argument or "?" in argument else ["own"]
        assert ids(entries) == [*"01234567", *own]
        assert entries[0].path == cohort / "linked" / "0.svs"
        assert lines == []

    @pytest.mark.parametrize("argument", [".", "**"])
    def test_a_circle_of_links_ends_with_a_warning(self, archive: Path, argument: str) -> None:
        for name in ("sub/up", "sub/deep/top", "here"):
            (archive / name).symlink_to(archive)
        entries, lines = found(archive / argument)
        assert ids(entries) == ["a", "b", "c", "d", "m"]
        assert entries[2].path == archive / "sub" / "c.ndpi"
        for name in ("sub/up", "sub/deep/top", "here"):
            assert any(
                line.startswith(f"{archive / name} is left out: the link leads back to")
                for line in lines
            )

    def test_a_link_to_a_folder_above_gives_a_warning(self, archive: Path) -> None:
        (archive / "sub" / "up").symlink_to("..")
        entries, (line,) = found(archive / "sub")
        assert ids(entries) == ["c", "d"]
        assert f"leads back to {archive}" in line

    def test_two_folders_that_link_to_each_other_are_searched_once(self, tmp_path: Path) -> None:
        for name, other in (("one", "two"), ("two", "one")):
            (tmp_path / name).mkdir()
            (tmp_path / name / f"{name}.svs").touch()
            (tmp_path / name / "other").symlink_to(tmp_path / other)
        assert ids(found(tmp_path)[0]) == ids(found(tmp_path / "one")[0]) == ["one", "two"]

    def test_two_links_to_one_file_are_one_slide_with_the_first_name(
        self, archive: Path, cohort: Path
    ) -> None:
        for name in ("later.svs", "first.svs"):
            (cohort / name).symlink_to(archive / "b.svs")
        entries, lines = found(cohort)
        assert ids(entries) == ["first"]
        assert lines == [
            f"{cohort}/later.svs is the same file as {cohort}/first.svs. They are one "
            "slide, named after first.svs"
        ]

    def test_equal_names_of_different_targets_are_two_slides(
        self, archive: Path, cohort: Path
    ) -> None:
        for site, target in (("x", "b.svs"), ("y", "sub/c.ndpi")):
            (cohort / site).mkdir()
            (cohort / site / "same.svs").symlink_to(archive / target)
        assert ids(found(cohort)[0]) == ["x_same", "y_same"]

    @pytest.mark.parametrize("argument", ["", "*", "**", "*.svs"])
    def test_broken_links_give_warnings_and_the_search_goes_on(
        self, cohort: Path, argument: str
    ) -> None:
        (cohort / "a.svs").touch()
        (cohort / "gone.svs").symlink_to("/nowhere/x.svs")
        (cohort / "self.svs").symlink_to("self.svs")
        entries, lines = found(cohort / argument)
        assert ids(entries) == ["a"]
        assert lines == [
            f"{cohort}/gone.svs is left out: the link leads to /nowhere/x.svs, which does not "
            "exist. Correct or remove the link",
            f"{cohort}/self.svs is left out: the link leads back to itself. Correct or "
            "remove the link",
        ]

    @pytest.mark.parametrize("argument", ["", "*/a.svs", "*/*", "**/*.svs"])
    def test_a_broken_link_to_a_folder_gives_a_warning(self, cohort: Path, argument: str) -> None:
        (cohort / "there").mkdir()
        (cohort / "there" / "a.svs").touch()
        (cohort / "batch7").symlink_to("/nowhere/batch7")
        entries, lines = found(cohort / argument)
        assert ids(entries) == ["a"]
        assert [line.split(":")[0] for line in lines] == [f"{cohort / 'batch7'} is left out"]

    def test_links_among_the_arguments_are_followed_and_broken_ones_give_warnings(
        self, archive: Path, cohort: Path
    ) -> None:
        """A shell passes the names of broken links for ``cohort/*``."""
        for name, target in (("f.svs", "../b.svs"), ("folder", "../sub"), ("gone", "../nothing")):
            (cohort / name).symlink_to(target)
        entries, lines = found(*sorted(cohort.iterdir()))
        assert ids(entries) == ["c", "d", "f"]
        assert [line.split(":")[0] for line in lines] == [f"{cohort / 'gone'} is left out"]

    @pytest.mark.parametrize("argument", ["", "*", "**", "**/*.*", "*/*"])
    def test_an_unreadable_folder_gives_a_warning_and_the_search_goes_on(
        self, archive: Path, monkeypatch: pytest.MonkeyPatch, argument: str
    ) -> None:
        scandir = os.scandir

        def refuse(path: str) -> object:
            if Path(path).name == "deep":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        entries, lines = found(archive / argument)
        assert ids(entries) == (["c"] if argument == "*/*" else ["a", "b", "c", "m"])
        assert lines == [
            f"{archive}/sub/deep is left out: the folder cannot be searched: Permission denied. "
            "Fix its permissions and run again, or ignore this if it holds no slides"
        ]

    def test_without_a_function_the_lines_are_python_warnings(self, cohort: Path) -> None:
        (cohort / "a.svs").touch()
        (cohort / "gone.svs").symlink_to("nothing")
        with pytest.warns(UserWarning, match=r"gone\.svs is left out"):
            assert ids(find_slides([cohort], None, None).slides) == ["a"]

    def test_a_link_to_an_mrxs_file_opens_beside_its_data(
        self, archive: Path, cohort: Path
    ) -> None:
        (archive / "m" / "Slidedat.ini").touch()
        (cohort / "alone.mrxs").symlink_to("../m.mrxs")
        assert found(cohort)[0] == [SlideEntry("alone", archive / "m.mrxs", None, None, None, ())]
        (cohort / "alone").symlink_to("../m")
        assert found(cohort)[0][0].path == cohort / "alone.mrxs"
        (cohort / "alone.mrxs").unlink()
        with pytest.raises(UsageError, match="matches no slide"):  # m/extra.tif is no slide
            found(cohort)

    def test_links_to_dicom_files_of_one_series_are_one_slide(
        self, archive: Path, cohort: Path, shared_data: Path
    ) -> None:
        source = shared_data / "slides" / "camelyon-overview.dcm"
        small = pydicom.dcmread(source)
        small.TotalPixelMatrixColumns = 10
        small.save_as(archive / "sub" / "0.dcm")
        (cohort / "small.dcm").symlink_to("../sub/0.dcm")
        (cohort / "whole.dcm").symlink_to(source)
        assert ids(found(cohort)[0]) == ["whole"]

    def test_a_link_to_one_file_of_a_dicom_series_opens_beside_the_others(
        self, archive: Path, cohort: Path, shared_data: Path
    ) -> None:
        whole = archive / "sub" / "0.dcm"
        shutil.copyfile(shared_data / "slides" / "camelyon-overview.dcm", whole)
        shutil.copyfile(whole, archive / "sub" / "1.dcm")
        (cohort / "case 7.dcm").symlink_to("../sub/0.dcm")
        (one,) = found(cohort)[0]
        assert (one.slide_id, one.path) == ("case 7", whole)

    def test_a_row_of_the_manifest_fits_a_link(self, archive: Path, cohort: Path) -> None:
        (cohort / "case 7.svs").symlink_to("../b.svs")
        for row in ("cohort/case 7.svs", "case 7", "b.svs"):
            (entry,) = find_slides(
                [cohort], write_manifest(archive, f"path,patient\n{row},P7\n"), None
            ).slides
            assert (entry.slide_id, entry.patient_id) == ("case 7", "P7")


class TestLeftOut:
    """Paths that are not taken have an id, a reason code and a line, and the search goes on."""

    @pytest.mark.parametrize("argument", ["", "*", "**"])
    def test_each_thing_that_is_not_taken_is_one_entry_and_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
    ) -> None:
        make_odd_things(tmp_path, monkeypatch)
        lines: list[str] = []
        call = find_slides([tmp_path / argument], None, None, warn=lines.append)
        assert ids(call.slides) == ["HE", "a"]
        reasons = {one.path: one.reason.partition(":")[0] for one in call.left_out}
        assert reasons == {
            f"{tmp_path}/P5/HE.svs": "broken_link",
            f"{tmp_path}/back": "circular_link",
            f"{tmp_path}/caf\\udce9.svs": "bad_name",
            f"{tmp_path}/locked.svs": "no_access",
            f"{tmp_path}/lost+found": "no_access",
            f"{tmp_path}/self.svs": "circular_link",
            f"{tmp_path}/two\\nlines.svs": "bad_name",
            f"{tmp_path}/pipe.svs": "no_file",
        }
        assert len(lines) == len(reasons)
        names = [*ids(call.slides), *(one.slide_id for one in call.left_out)]
        assert len({fold_name(name) for name in names}) == len(names)
        assert [name for name in names if slide_id_problem(name)] == []
        assert "P5_HE" in names

    def test_a_call_with_nothing_but_odd_things_is_an_error_with_their_reasons(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "two\nlines.svs").touch()
        (tmp_path / "gone.svs").symlink_to("nowhere")
        with pytest.raises(UsageError, match=r"does not exist.*control character or a line break"):
            find_slides([tmp_path], None, None)


def make_odd_things(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write two slides beside one of each kind of thing that is left out."""
    for name in ("P4", "P5", "lost+found"):
        (folder / name).mkdir()
    for name in ("a.svs", "P4/HE.svs", "locked.svs", "two\nlines.svs", "caf\udce9.svs"):
        (folder / name).touch()
    for name, target in (("P5/HE.svs", "nowhere"), ("self.svs", "self.svs"), ("back", ".")):
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.svs")
    scandir, access = os.scandir, os.access

    def refuse(path: Path) -> object:
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "locked.svs" and access(path, mode)
    )
