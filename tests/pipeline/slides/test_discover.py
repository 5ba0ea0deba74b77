"""From arguments and a manifest to the slides of a run."""

import os
import re
import shutil
from pathlib import Path

import pydicom
import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SlideEntry, find_slides
from noctile.pipeline.slides.names import slide_id_problem


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Slides by name only: nothing opens them here."""
    for name in (
        *(
            "b.svs",
            "a.TIFF",
            "notes.txt",
            ".hidden.svs",
            "sub/c.ndpi",
            "sub/deep/d.tif",
            ".cache/e.svs",
        ),
        *("m.mrxs", "m/Data0000.dat", "m/extra.tif", "odd.name"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def ids(entries: list[SlideEntry]) -> list[str]:
    return [entry.slide_id for entry in entries]


def found(*arguments: str | Path) -> tuple[list[SlideEntry], list[str]]:
    """The slides of a call, and the lines with which it names what was left out."""
    lines: list[str] = []
    return find_slides(arguments, None, None, warn=lines.append), lines


def manifest(folder: Path, text: str, name: str = "manifest.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path


class TestArguments:
    def test_a_folder_is_searched_with_its_subfolders(self, archive: Path) -> None:
        entries = find_slides([archive], None, None)
        assert ids(entries) == ["a", "b", "c", "d", "m"]
        assert entries[0] == SlideEntry("a", archive / "a.TIFF", None, None, None, ())

    def test_a_named_file_is_taken_whatever_its_name(self, archive: Path) -> None:
        assert (
            ids(find_slides([str(archive / "odd.name"), archive / ".hidden.svs"], None, None))[1]
            == "odd"
        )

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("*.svs", ["b"]),
            ("**/*.tif", ["d"]),
            ("s*", ["c", "d"]),
            ("[ab].*", ["a", "b"]),
            ("**", ["a", "b", "c", "d", "m"]),
        ],
    )
    def test_globs_match_slides_and_folders(
        self, archive: Path, pattern: str, found: list[str]
    ) -> None:
        assert ids(find_slides([str(archive / pattern)], None, None)) == found

    def test_tilde_is_the_home_folder(self, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(archive))
        assert ids(find_slides(["~/b.svs"], None, None)) == ["b"]

    @pytest.mark.parametrize("argument", ["gone.svs", "*.czi", "empty", "*.txt"])
    def test_what_matches_no_slide_is_an_error_that_names_it(
        self, archive: Path, argument: str
    ) -> None:
        (archive / "empty").mkdir()
        with pytest.raises(UsageError) as refused:
            find_slides([archive / "b.svs", archive / argument], None, None)
        assert argument in str(refused.value)

    @pytest.mark.parametrize("arguments", [[], [""]])
    def test_nothing_to_read_is_an_error(self, arguments: list[str]) -> None:
        with pytest.raises(UsageError):
            find_slides(arguments, None, None)

    def test_a_file_that_is_named_twice_is_one_slide(self, archive: Path) -> None:
        (archive / "link.svs").symlink_to(archive / "b.svs")
        named = [archive / "b.svs", archive, f"{archive}/sub/../b.svs"]
        entries, lines = found(*named)
        assert ids(entries) == ["a", "b", "c", "d", "m"]
        assert len(lines) == 1

    def test_equal_names_in_different_folders_get_a_hash_of_their_path(self, archive: Path) -> None:
        (archive / "sub" / "B.tif").write_bytes(b"")
        one, other = (
            find_slides(where, None, None)
            for where in ([archive], [archive / "sub", archive / "b.svs"])
        )
        named = {entry.path.name: entry.slide_id for entry in one}
        assert named["B.tif"].startswith("B-")
        assert named["b.svs"].startswith("b-")
        assert len(named["b.svs"]) == 10
        assert named["a.TIFF"] == "a"
        assert {entry.path.name: entry.slide_id for entry in other}["b.svs"] == named["b.svs"]

    def test_the_order_of_arguments_changes_nothing(self, archive: Path) -> None:
        paths = [archive / "b.svs", archive / "sub", archive / "a.TIFF"]
        assert find_slides(paths, None, 0.5) == find_slides(paths[::-1], None, 0.5)

    def test_the_pixel_size_of_the_call_is_that_of_every_slide(self, archive: Path) -> None:
        assert {entry.mpp for entry in find_slides([archive], None, 0.25)} == {(0.25, 0.25)}

    @pytest.mark.parametrize("stem", ["..a", "tab\tb", "x" * 200, "back\\slash", " ", "ü" * 100])
    def test_a_stem_that_cannot_name_a_folder_is_made_safe(self, tmp_path: Path, stem: str) -> None:
        path = tmp_path / f"{stem}.svs"
        path.write_bytes(b"")
        (slide_id,) = ids(find_slides([path], None, None))
        assert slide_id_problem(slide_id) is None
        assert ids(find_slides([path], None, None)) == [slide_id]

    def test_dicom_files_of_one_series_are_one_slide(
        self, archive: Path, shared_data: Path
    ) -> None:
        source = shared_data / "slides" / "camelyon-overview.dcm"
        shutil.copyfile(source, archive / "sub" / "level0.dcm")
        small = pydicom.dcmread(source)
        small.TotalPixelMatrixColumns = 10
        small.save_as(archive / "sub" / "level1.dcm")
        shutil.copyfile(archive / "sub" / "level1.dcm", archive / "elsewhere.dcm")
        (archive / "broken.dcm").write_bytes(b"no DICOM")
        assert ids(find_slides([archive], None, None)) == [
            "a",
            "b",
            "broken",
            "c",
            "d",
            "elsewhere",
            "level0",
            "m",
        ]


class TestLinks:
    """Cohorts on clusters are folders of links into the archive."""

    @pytest.fixture
    def cohort(self, tmp_path: Path) -> Path:
        folder = tmp_path / "cohort"
        folder.mkdir()
        return folder

    def test_a_folder_of_links_gives_the_slides_under_the_links_own_names(
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
    def test_a_circle_ends_and_is_named(self, archive: Path, argument: str) -> None:
        for name in ("sub/up", "sub/deep/top", "here"):
            (archive / name).symlink_to(archive)
        entries, lines = found(archive / argument)
        assert ids(entries) == ["a", "b", "c", "d", "m"]
        assert entries[2].path == archive / "sub" / "c.ndpi"
        for name in ("sub/up", "sub/deep/top", "here"):
            assert any(line.startswith(f"{archive / name} is not followed") for line in lines)

    def test_a_link_to_a_folder_above_the_searched_one_is_named(self, archive: Path) -> None:
        (archive / "sub" / "up").symlink_to("..")
        entries, (line,) = found(archive / "sub")
        assert ids(entries) == ["c", "d"]
        assert f"leads back to {archive}" in line

    def test_two_folders_that_lead_to_each_other_are_searched_once(self, tmp_path: Path) -> None:
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
            f"{cohort}/later.svs is the same file as {cohort}/first.svs. They are one slide, named after first.svs"
        ]

    def test_equal_names_of_different_targets_are_two_slides(
        self, archive: Path, cohort: Path
    ) -> None:
        for site, target in (("x", "b.svs"), ("y", "sub/c.ndpi")):
            (cohort / site).mkdir()
            (cohort / site / "same.svs").symlink_to(archive / target)
        assert [slide_id[:5] for slide_id in ids(found(cohort)[0])] == ["same-", "same-"]

    @pytest.mark.parametrize("argument", ["", "*", "**", "*.svs"])
    def test_broken_links_are_named_and_the_search_goes_on(
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
            f"{cohort}/self.svs is left out: the link leads back to itself. Correct or remove the link",
        ]

    @pytest.mark.parametrize("argument", ["", "*/a.svs", "*/*", "**/*.svs"])
    def test_a_broken_link_to_a_folder_is_named(self, cohort: Path, argument: str) -> None:
        (cohort / "there").mkdir()
        (cohort / "there" / "a.svs").touch()
        (cohort / "batch7").symlink_to("/nowhere/batch7")
        entries, lines = found(cohort / argument)
        assert ids(entries) == ["a"]
        assert [line.split(":")[0] for line in lines] == [f"{cohort / 'batch7'} is left out"]

    def test_arguments_that_are_links_are_followed_and_broken_ones_named(
        self, archive: Path, cohort: Path
    ) -> None:
        """A shell puts the names of broken links into the call for ``cohort/*``."""
        for name, target in (("f.svs", "../b.svs"), ("folder", "../sub"), ("gone", "../nothing")):
            (cohort / name).symlink_to(target)
        entries, lines = found(*sorted(cohort.iterdir()))
        assert ids(entries) == ["c", "d", "f"]
        assert [line.split(":")[0] for line in lines] == [f"{cohort / 'gone'} is left out"]

    @pytest.mark.parametrize("argument", ["", "*", "**", "**/*.*", "*/*"])
    def test_an_unreadable_folder_is_named_and_the_search_goes_on(
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
            f"folder {archive}/sub/deep is left out, it cannot be searched: Permission denied. Fix "
            "its permissions and run again"
        ]

    def test_without_a_listener_the_lines_are_python_warnings(self, cohort: Path) -> None:
        (cohort / "a.svs").touch()
        (cohort / "gone.svs").symlink_to("nothing")
        with pytest.warns(UserWarning, match=r"gone\.svs is left out"):
            assert ids(find_slides([cohort], None, None)) == ["a"]

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

    def test_a_row_of_the_manifest_names_a_link(self, archive: Path, cohort: Path) -> None:
        (cohort / "case 7.svs").symlink_to("../b.svs")
        for row in ("cohort/case 7.svs", "case 7", "b.svs"):
            (entry,) = find_slides([cohort], manifest(archive, f"path,patient\n{row},P7\n"), None)
            assert (entry.slide_id, entry.patient_id) == ("case 7", "P7")


class TestImages:
    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Path:
        """A slide among plain images, and a folder of plain images alone."""
        for name in (
            "slide.svs",
            "preview.jpg",
            "truth.png",
            "regions/a.png",
            "regions/b.PNG",
            "regions/c.jpeg",
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(name.encode())
        return tmp_path

    def test_a_folder_does_not_give_its_plain_images(self, mixed: Path) -> None:
        for argument in (mixed, mixed / "*", mixed / "**"):
            assert ids(find_slides([argument], None, None)) == ["slide"]

    def test_named_files_and_globs_of_their_suffix_do(self, mixed: Path) -> None:
        assert ids(find_slides([mixed / "truth.png", mixed], None, None)) == ["slide", "truth"]
        assert ids(find_slides([mixed / "regions" / "*.png"], None, None)) == ["a"]
        assert ids(find_slides([mixed / "**" / "*.png"], None, None)) == ["a", "truth"]

    @pytest.mark.parametrize("argument", ["regions", "reg*", "regions/*"])
    def test_where_there_are_only_plain_images_the_error_says_so(
        self, mixed: Path, argument: str
    ) -> None:
        with pytest.raises(
            UsageError,
            match=rf"{re.escape(argument)}.* only 3 plain images such as .*name the files",
        ):
            find_slides([mixed / argument], None, None)

    def test_who_asks_for_images_gets_them(self, mixed: Path) -> None:
        entries = find_slides([mixed], None, 0.25, images=True)
        assert ids(entries) == ["a", "b", "c", "preview", "slide", "truth"]


class TestManifestAlone:
    def test_its_rows_are_the_slides(self, archive: Path) -> None:
        file = manifest(
            archive,
            "slide_id,path,patient_id,mpp,group,stain\nS2,sub/c.ndpi,P1,0.25,train,HE\nS1,b.svs,,,,\n\nS3,gone.svs,P2,,,IHC\n",
        )
        assert find_slides([], file, 0.5) == [
            SlideEntry("S1", archive / "b.svs", (0.5, 0.5), None, None, (("stain", ""),)),
            SlideEntry(
                "S2", archive / "sub/c.ndpi", (0.25, 0.25), "P1", "train", (("stain", "HE"),)
            ),
            SlideEntry("S3", archive / "gone.svs", (0.5, 0.5), "P2", None, (("stain", "IHC"),)),
        ]

    @pytest.mark.parametrize(
        ("header", "row"),
        [
            ("sample_id,image_path,spacing_at_level_0", "S,b.svs,0.25"),
            ("Slide,WSI,wsi_mpp", "S,b.svs,0.25"),
            ("slide_id;filename;mpp", "S;b.svs;0,25"),
            ("slide-id\tPath\tmpp_y\tmpp_x", "S\tb.svs\t0.25\t0.25"),
            ("slide_id,path,mpp,mpp_y", "S,b.svs,0.25,"),
        ],
    )
    def test_columns_have_the_names_that_other_tools_use(
        self, archive: Path, header: str, row: str
    ) -> None:
        file = manifest(archive, f"{header}\r\n{row}\r\n", encoding="utf-8-sig")
        assert find_slides([], file, None) == [
            SlideEntry("S", archive / "b.svs", (0.25, 0.25), None, None, ())
        ]

    def test_both_sides_of_a_pixel_may_differ(self, archive: Path) -> None:
        file = manifest(archive, "path,mpp,mpp_y\nb.svs,0.25,0.3\n")
        assert find_slides([], file, None)[0].mpp == (0.3, 0.25)

    def test_a_canonical_column_wins_and_its_alias_is_passed_on(self, archive: Path) -> None:
        file = manifest(archive, "filename,path\nwas.svs,b.svs\n")
        assert find_slides([], file, None) == [
            SlideEntry("b", archive / "b.svs", None, None, None, (("filename", "was.svs"),))
        ]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "no column slide_id or path"),
            ("slide_id,mpp\nS,0.25\n", "row 2: no path"),
            ("name,size\nb,1\n", "no column slide_id or path"),
            ("slide_id,path\n", "has no rows"),
            ("slide_id,path\nS,b.svs\ns,sub/c.ndpi\n", "row 3: slide_id 's' was used before"),
            ("slide_id,path\nS,b.svs\nT,./b.svs\n", "row 3: .* was named before"),
            ("slide_id,path\nS,\n", "row 2: the path is empty"),
            ("path,mpp\nb.svs,a quarter\n", "row 2: mpp 'a quarter' is not a positive number"),
            ("path,mpp\nb.svs,-1\n", "row 2: mpp '-1'"),
            ("path,mpp\nb.svs,nan\n", "row 2: mpp 'nan'"),
            ("path,mpp_y\nb.svs,0.25\n", "row 2: mpp_y and mpp_x must both"),
            ("slide_id,path\n../S,b.svs\n", "row 2: slide_id '../S' cannot name a folder"),
            (f"slide_id,path\n{'x' * 129},b.svs\n", "row 2: .* longer than 128 bytes"),
            ("slide_id,path\n\nS,b.svs,more\n", "row 3: 3 cells, but 2 columns"),
            ("path,path\nb.svs,b.svs\n", "names a column twice"),
            ('path\n"b.svs\n', "unexpected end of data"),
        ],
    )
    def test_what_cannot_be_used_is_named_with_its_row(
        self, archive: Path, text: str, complaint: str
    ) -> None:
        with pytest.raises(UsageError, match=complaint):
            find_slides([], manifest(archive, text), None)

    def test_a_manifest_that_is_not_there_or_not_text_is_an_error(self, archive: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            find_slides([], archive / "gone.csv", None)
        with pytest.raises(UsageError, match="not UTF-8"):
            find_slides([], manifest(archive, "path\nb.svs\n", encoding="utf-16"), None)


class TestManifestAndArguments:
    @pytest.mark.parametrize(
        "row",
        ["b.svs,,P7,0.3", "/elsewhere/b.svs,,P7,0.3", "b,,P7,0.3", "b.svs,new-name,P7,0.3"],
    )
    def test_a_row_says_more_about_a_slide_of_the_call(self, archive: Path, row: str) -> None:
        file = manifest(archive, f"path,slide_id,patient_id,mpp\n{row}\n")
        entries = find_slides([archive], file, 0.5)
        assert len(entries) == 5
        (entry,) = (entry for entry in entries if entry.patient_id)
        assert entry == SlideEntry(
            "new-name" if "new" in row else "b", archive / "b.svs", (0.3, 0.3), "P7", None, ()
        )
        assert {entry.mpp for entry in entries if not entry.patient_id} == {(0.5, 0.5)}

    def test_a_slide_id_alone_is_the_files_stem(self, archive: Path) -> None:
        entries = find_slides([archive], manifest(archive, "patient,slide\nP7,d\n"), None)
        assert [(entry.slide_id, entry.patient_id) for entry in entries if entry.patient_id] == [
            ("d", "P7")
        ]

    @pytest.mark.parametrize(
        ("rows", "complaint"),
        [
            ("gone.svs", "row 2: among the slides of the call, .*gone.svs is not there"),
            ("b.svs\nb", "row 3: .*b.svs has a row already"),
            ("twin", "row 2: .* fits 2 slides"),
        ],
    )
    def test_a_row_must_fit_one_slide(self, archive: Path, rows: str, complaint: str) -> None:
        for name in ("twin.svs", "sub/twin.tif"):
            (archive / name).write_bytes(b"")
        with pytest.raises(UsageError, match=complaint):
            find_slides([archive], manifest(archive, f"path\n{rows}\n"), None)

    def test_a_row_of_another_file_with_the_same_name_does_not_fit(self, archive: Path) -> None:
        (archive / "other").mkdir()
        (archive / "other" / "c.ndpi").write_bytes(b"")
        with pytest.raises(UsageError, match="is not there"):
            find_slides([archive / "sub"], manifest(archive, "path\nother/c.ndpi\n"), None)
