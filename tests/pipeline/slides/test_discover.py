"""Search for the slides of a run, by arguments and a manifest."""

import re
import shutil
from pathlib import Path

import pydicom
import pytest
from slide_folders import found, ids, write_manifest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SlideEntry, find_slides
from noctile.pipeline.slides.names import slide_id_problem


class TestArguments:
    def test_a_folder_is_searched_with_its_subfolders(self, archive: Path) -> None:
        entries = find_slides([archive], None, None).slides
        assert ids(entries) == ["a", "b", "c", "d", "m"]
        assert entries[0] == SlideEntry("a", archive / "a.TIFF", None, None, None, ())

    def test_a_named_file_may_have_any_name(self, archive: Path) -> None:
        entries, _ = found(archive / "odd.name", archive / ".hidden.svs")
        assert ids(entries) == ["hidden", "odd"]

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
        assert ids(find_slides([str(archive / pattern)], None, None).slides) == found

    def test_tilde_is_the_home_folder(self, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(archive))
        assert ids(find_slides(["~/b.svs"], None, None).slides) == ["b"]

    @pytest.mark.parametrize("argument", ["gone.svs", "*.czi", "empty", "*.txt", "~nobody-at-all"])
    def test_a_call_without_any_slide_is_an_error_that_names_the_arguments(
        self, archive: Path, argument: str
    ) -> None:
        (archive / "empty").mkdir()
        with pytest.raises(UsageError) as refused:
            find_slides([archive / argument if "~" not in argument else argument], None, None)
        assert argument in str(refused.value)
        assert "matches no slide" in str(refused.value)

    @pytest.mark.parametrize("argument", ["*.czi", "empty", "*.txt"])
    def test_an_argument_without_slides_beside_others_is_a_warning(
        self, archive: Path, argument: str
    ) -> None:
        (archive / "empty").mkdir()
        entries, (line,) = found(archive / "b.svs", archive / argument)
        assert ids(entries) == ["b"]
        assert f"{argument}' matches no slide" in line

    def test_a_named_file_that_does_not_exist_is_a_slide_beside_others(self, archive: Path) -> None:
        """It fails when it is opened, with the reason ``missing``."""
        entries, lines = found(archive / "gone.svs", archive / "b.svs", archive / ("x" * 300))
        assert ids(entries) == ["b", "gone", "x" * 128]
        assert lines == []

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

    def test_equal_names_in_different_folders_get_the_folders_in_front(self, archive: Path) -> None:
        for name in ("P1/HE.svs", "P2/HE.svs", "P2/more/HE.svs", "P3/more/he.svs", "P1/HE.tif"):
            (archive / name).parent.mkdir(parents=True, exist_ok=True)
            (archive / name).touch()
        entries, lines = found(archive / "P*")
        assert {str(e.path.relative_to(archive)): e.slide_id for e in entries} == {
            "P1/HE.svs": "P1_HE",
            "P1/HE.tif": "P1_HE_2",
            "P2/HE.svs": "P2_HE",
            "P2/more/HE.svs": "P2_more_HE",
            "P3/more/he.svs": "P3_more_he",
        }
        assert lines == []
        assert ids(found(archive / "P2" / "HE.svs")[0]) == ["HE"]

    def test_the_order_of_arguments_changes_nothing(self, archive: Path) -> None:
        paths = [archive / "b.svs", archive / "sub", archive / "a.TIFF"]
        assert find_slides(paths, None, 0.5).slides == find_slides(paths[::-1], None, 0.5).slides

    def test_the_pixel_size_of_the_call_applies_to_every_slide(self, archive: Path) -> None:
        assert {entry.mpp for entry in find_slides([archive], None, 0.25).slides} == {(0.25, 0.25)}

    def test_an_id_of_the_manifest_is_not_given_to_another_slide(self, archive: Path) -> None:
        file = write_manifest(archive, "slide_id,path\nB,sub/c.ndpi\n")
        entries = find_slides([archive / "b.svs", archive / "sub" / "c.ndpi"], file, None).slides
        assert [(e.slide_id, e.named) for e in entries] == [
            ("B", True),
            (f"{archive.name}_b", False),
        ]

    @pytest.mark.parametrize("stem", ["..a", "tab\tb", "x" * 200, "back\\slash", " ", "ü" * 100])
    def test_a_stem_that_cannot_name_a_folder_is_made_safe(self, tmp_path: Path, stem: str) -> None:
        path = tmp_path / f"{stem}.svs"
        path.write_bytes(b"")
        (slide_id,) = ids(find_slides([path], None, None).slides)
        assert slide_id_problem(slide_id) is None
        assert ids(find_slides([path], None, None).slides) == [slide_id]

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
        assert ids(find_slides([archive], None, None).slides) == [
            "a",
            "b",
            "broken",
            "c",
            "d",
            "elsewhere",
            "level0",
            "m",
        ]


class TestImages:
    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Path:
        """A slide among plain images, and a folder of only plain images."""
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

    def test_plain_images_in_folders_are_left_out(self, mixed: Path) -> None:
        for argument in (mixed, mixed / "*", mixed / "**"):
            assert ids(find_slides([argument], None, None).slides) == ["slide"]

    def test_plain_images_are_found_by_name_and_by_globs_of_their_suffix(self, mixed: Path) -> None:
        assert ids(find_slides([mixed / "truth.png", mixed], None, None).slides) == [
            "slide",
            "truth",
        ]
        assert ids(find_slides([mixed / "regions" / "*.png"], None, None).slides) == ["a"]
        assert ids(find_slides([mixed / "**" / "*.png"], None, None).slides) == ["a", "truth"]

    @pytest.mark.parametrize("argument", ["regions", "reg*", "regions/*"])
    def test_an_argument_with_only_plain_images_is_an_error_that_counts_them(
        self, mixed: Path, argument: str
    ) -> None:
        with pytest.raises(
            UsageError,
            match=rf"{re.escape(argument)}.* only 3 plain images such as .*name the files",
        ):
            find_slides([mixed / argument], None, None)

    def test_the_option_images_finds_plain_images_in_folders(self, mixed: Path) -> None:
        entries = find_slides([mixed], None, 0.25, images=True).slides
        assert ids(entries) == ["a", "b", "c", "preview", "slide", "truth"]


class TestManifestAndArguments:
    @pytest.mark.parametrize(
        "row",
        ["b.svs,,P7,0.3", "/elsewhere/b.svs,,P7,0.3", "b,,P7,0.3", "b.svs,new-name,P7,0.3"],
    )
    def test_a_row_adds_to_a_slide_of_the_call(self, archive: Path, row: str) -> None:
        file = write_manifest(archive, f"path,slide_id,patient_id,mpp\n{row}\n")
        entries = find_slides([archive], file, 0.5).slides
        assert len(entries) == 5
        (entry,) = (entry for entry in entries if entry.patient_id)
        assert entry == SlideEntry(
            "new-name" if "new" in row else "b",
            archive / "b.svs",
            (0.3, 0.3),
            "P7",
            None,
            (),
            named="new" in row,
        )
        assert {entry.mpp for entry in entries if not entry.patient_id} == {(0.5, 0.5)}

    def test_a_slide_id_alone_is_the_files_stem(self, archive: Path) -> None:
        entries = find_slides(
            [archive], write_manifest(archive, "patient,slide\nP7,d\n"), None
        ).slides
        assert [(entry.slide_id, entry.patient_id) for entry in entries if entry.patient_id] == [
            ("d", "P7")
        ]

    @pytest.mark.parametrize(
        ("rows", "complaint"),
        [
            ("gone.svs\nlost", "row 2: among the slides of the call, .*gone.svs is not there"),
            ("b.svs\nb", "row 3: .*b.svs has a row already"),
            ("twin", "row 2: .* fits 2 slides"),
        ],
    )
    def test_a_row_must_fit_one_slide(self, archive: Path, rows: str, complaint: str) -> None:
        for name in ("twin.svs", "sub/twin.tif"):
            (archive / name).write_bytes(b"")
        with pytest.raises(UsageError, match=complaint):
            find_slides([archive], write_manifest(archive, f"path\n{rows}\n"), None)

    def test_a_row_of_another_file_with_the_same_name_does_not_fit(self, archive: Path) -> None:
        (archive / "other").mkdir()
        (archive / "other" / "c.ndpi").write_bytes(b"")
        with pytest.raises(UsageError, match="is not there"):
            find_slides([archive / "sub"], write_manifest(archive, "path\nother/c.ndpi\n"), None)

    def test_rows_without_a_slide_beside_rows_with_one_are_a_warning(self, archive: Path) -> None:
        """A manifest of the whole cohort serves each batch."""
        lines: list[str] = []
        file = write_manifest(archive, "path,patient\nb.svs,P1\nlater.svs,P2\ngone.svs,P3\n")
        (archive / "gone.svs").symlink_to("nowhere.svs")
        found = find_slides([archive / "*.svs"], file, None, warn=lines.append)
        assert [(e.slide_id, e.patient_id) for e in found.slides] == [("b", "P1")]
        (about_rows,) = (line for line in lines if "Rows of the manifest" in line)
        assert "row 3: among the slides of the call" in about_rows
        assert "later.svs" in about_rows
        assert "gone.svs" not in about_rows

    def test_a_row_may_name_the_id_that_equal_names_get(self, archive: Path) -> None:
        for name in ("P1/HE.svs", "P2/HE.svs"):
            (archive / name).parent.mkdir()
            (archive / name).touch()
        file = write_manifest(archive, "slide_id,patient\nP2_HE,second\n")
        entries = find_slides([archive / "P*"], file, None).slides
        assert [(e.slide_id, e.patient_id) for e in entries] == [
            ("P1_HE", None),
            ("P2_HE", "second"),
        ]
