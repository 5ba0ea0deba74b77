"""Manifests: columns, cells and errors."""

from pathlib import Path

import pytest
from slide_folders import write_manifest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.discover import SlideEntry, find_slides


class TestManifestAlone:
    def test_rows_are_slides(self, archive: Path) -> None:
        file = write_manifest(
            archive,
            "slide_id,path,patient_id,mpp,group,stain\nS2,sub/c.ndpi,P1,0.25,train,HE\nS1,b.svs,,,,\n\nS3,gone.svs,P2,,,IHC\n",
        )
        assert find_slides([], file, 0.5).slides == [
            SlideEntry(
                "S1", archive / "b.svs", (0.5, 0.5), None, None, (("stain", ""),), named=True
            ),
            SlideEntry(
                "S2",
                archive / "sub/c.ndpi",
                (0.25, 0.25),
                "P1",
                "train",
                (("stain", "HE"),),
                named=True,
            ),
            SlideEntry(
                "S3", archive / "gone.svs", (0.5, 0.5), "P2", None, (("stain", "IHC"),), named=True
            ),
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
        file = write_manifest(archive, f"{header}\r\n{row}\r\n", encoding="utf-8-sig")
        assert find_slides([], file, None).slides == [
            SlideEntry("S", archive / "b.svs", (0.25, 0.25), None, None, (), named=True)
        ]

    def test_both_sides_of_a_pixel_may_differ(self, archive: Path) -> None:
        file = write_manifest(archive, "path,mpp,mpp_y\nb.svs,0.25,0.3\n")
        assert find_slides([], file, None).slides[0].mpp == (0.3, 0.25)

    @pytest.mark.parametrize(
        ("cell", "bgr"), [("bgr", True), ("BGR", True), ("rgb", False), ("Rgb", False), ("", None)]
    )
    def test_the_channel_order_of_the_file_may_be_stated(
        self, archive: Path, cell: str, bgr: bool | None
    ) -> None:
        file = write_manifest(archive, f"path,Channel Order,stain\nb.svs,{cell},HE\n")
        slide = find_slides([], file, None).slides[0]
        assert (slide.bgr, slide.extra) == (bgr, (("stain", "HE"),))

    def test_a_column_wins_over_its_alias_which_becomes_an_extra_column(
        self, archive: Path
    ) -> None:
        file = write_manifest(archive, "filename,path\nwas.svs,b.svs\n")
        assert find_slides([], file, None).slides == [
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
            (
                "path,channel_order\nb.svs,grb\n",
                "row 2: channel_order 'grb' is neither rgb nor bgr",
            ),
            ("path,mpp\nb.svs,nan\n", "row 2: mpp 'nan'"),
            ("path,mpp_y\nb.svs,0.25\n", "row 2: mpp_y and mpp_x must both"),
            ("slide_id,path\n../S,b.svs\n", "row 2: slide_id '../S' cannot name a folder"),
            (f"slide_id,path\n{'x' * 129},b.svs\n", "row 2: .* longer than 128 bytes"),
            ("slide_id,path\n\nS,b.svs,more\n", "row 3: 3 cells, but 2 columns"),
            ("path,path\nb.svs,b.svs\n", "names a column twice"),
            ('path\n"b.svs\n', "unexpected end of data"),
        ],
    )
    def test_errors_name_the_row_and_the_problem(
        self, archive: Path, text: str, complaint: str
    ) -> None:
        with pytest.raises(UsageError, match=complaint):
            find_slides([], write_manifest(archive, text), None)

    def test_a_missing_or_undecodable_manifest_is_an_error(self, archive: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            find_slides([], archive / "gone.csv", None)
        with pytest.raises(UsageError, match="not UTF-8"):
            find_slides([], write_manifest(archive, "path\nb.svs\n", encoding="utf-16"), None)


class TestConfinement:
    @pytest.mark.parametrize(
        ("roi", "mask"), [("roi", "tissue_mask"), ("ROI path", "mask_path"), ("roi", "Mask-Path")]
    )
    def test_files_are_relative_to_the_manifest_and_not_copied_to_the_tables(
        self, archive: Path, roi: str, mask: str
    ) -> None:
        text = f"path,{roi},{mask}\nb.svs,roi/b.geojson,\nsub/c.ndpi,,/masks/c.png\n"
        slides = {
            s.slide_id: s for s in find_slides([], write_manifest(archive, text), None).slides
        }
        assert (slides["b"].roi, slides["b"].tissue_mask) == (archive / "roi/b.geojson", None)
        assert (slides["c"].roi, slides["c"].tissue_mask) == (None, Path("/masks/c.png"))
        assert [slide.extra for slide in slides.values()] == [(), ()]

    def test_of_two_columns_the_first_name_counts_and_the_other_is_copied(self, archive) -> None:
        file = write_manifest(archive, "path,mask_path,tissue_mask\nb.svs,old.png,new.png\n")
        (slide,) = find_slides([], file, None).slides
        assert slide.tissue_mask == archive / "new.png"
        assert slide.extra == (("mask_path", "old.png"),)

    def test_a_name_that_no_file_has_is_refused(self, archive) -> None:
        with pytest.raises(UsageError, match=r"row 2: the path 'a\\x07b'"):
            find_slides([], write_manifest(archive, "path,roi\nb.svs,a\x07b\n"), None)
