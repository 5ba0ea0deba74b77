"""Regions in a folder of training data, in each known layout."""

import gzip
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from tiny_slides import picture, write_tiff

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.truth.find import DataSource, find_regions
from noctile.pipeline.truth.region import Region, load_region
from noctile.pipeline.truth.scheme import load_scheme
from noctile.pipeline.truth.split import BCSS_TEST_INSTITUTES, SplitSpec, make_split
from sample_slides.make_regions import write_regions

CODES = np.tile(np.uint8([0, 1, 2, 21]), (16, 4))
BLACK_AND_WHITE = np.tile(np.uint8([0, 255]), (16, 8))
OFFICIAL = "TCGA-OL-A5RW-DX1_xmin18562_ymin56852_MPP-0.2500"


def save(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(16, 16) if pixels is None else pixels).save(path)
    return path


def pairs(
    folder: Path,
    names: Iterable[str],
    mask: np.ndarray = CODES,
    images: str = "images",
    masks: str = "masks",
) -> Path:
    for name in names:
        save(folder / images / name)
        save(folder / masks / name, mask)
    return folder


def find(path: Path, **settings: object) -> list[Region]:
    return find_regions(DataSource(path=path, **settings))  # type: ignore[arg-type]


class TestOfficialRelease:
    def test_file_names_give_patient_institute_and_pixel_size(self, tmp_path: Path) -> None:
        (one,) = find(pairs(tmp_path, [f"{OFFICIAL}.png"], images="rgbs_colorNormalized"))
        assert (one.region_id, one.patient, one.institute, one.mpp) == (
            OFFICIAL,
            "TCGA-OL-A5RW",
            "OL",
            0.25,
        )
        assert (one.source, one.binary, one.listed, one.box) == (tmp_path.name, False, None, None)

    def test_a_generated_release_is_read_with_21_classes(self, tmp_path: Path) -> None:
        images = write_regions(tmp_path / "out", range(1000, 1004), 256, 0.5, all_codes=True)
        regions = find(tmp_path / "out")
        assert sorted(region.image for region in regions) == sorted(images)
        assert {region.institute for region in regions} & set(BCSS_TEST_INSTITUTES)
        assert len({region.patient for region in regions}) == 4
        found = load_region(regions[0], load_scheme("bcss21"), 0.5)
        assert set(range(21)) < set(np.unique(found.targets))
        assert make_split(regions, SplitSpec(val=()))

    def test_raw_and_normalised_images_of_the_same_tissue_are_not_mixed(
        self, tmp_path: Path
    ) -> None:
        pairs(tmp_path, [f"{OFFICIAL}.png"], images="rgbs_colorNormalized")
        save(tmp_path / "images" / f"{OFFICIAL}.png")
        with pytest.raises(UsageError, match="both images/ and rgbs_colorNormalized/"):
            find(tmp_path)


class TestPlainFolders:
    def test_regions_are_sorted_and_each_is_its_own_patient(self, tmp_path: Path) -> None:
        regions = find(pairs(tmp_path, ["b.png", "a.tif", "c.png"]), mpp=0.5)
        assert [region.region_id for region in regions] == ["a", "b", "c"]
        assert [region.patient for region in regions] == ["a", "b", "c"]
        assert {(region.institute, region.mpp) for region in regions} == {("", 0.5)}

    def test_masks_may_have_another_suffix_or_end_in_mask(self, tmp_path: Path) -> None:
        save(tmp_path / "images" / "a.jpg"), save(tmp_path / "masks" / "a.png", CODES)
        save(tmp_path / "images" / "b.png"), save(tmp_path / "masks" / "b_mask.tif", CODES)
        assert [region.truth.name for region in find(tmp_path)] == ["a.png", "b_mask.tif"]

    def test_the_source_names_itself_and_overrides_the_pixel_size(self, tmp_path: Path) -> None:
        pairs(tmp_path, [f"{OFFICIAL}.png"])
        (one,) = find(tmp_path, name="mine", mpp=0.5, ignore_white=True)
        assert (one.source, one.mpp, one.ignore_white, one.ignore_marked) == (
            "mine",
            0.5,
            True,
            False,
        )

    def test_marks_are_ignored_in_black_and_white_masks_alone(self, tmp_path: Path) -> None:
        pairs(tmp_path, [f"{OFFICIAL}.png"])
        with pytest.raises(
            UsageError,
            match="ignore_marked is for black and white masks, but these masks hold codes",
        ):
            find(tmp_path, ignore_marked=True)
        (one,) = find(tmp_path, masks="binary", ignore_marked=True)
        assert (one.binary, one.ignore_marked) == (True, True)

    def test_patients_come_from_a_table_where_there_is_one(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png", "b.png", "c.png"])
        (tmp_path / "patients.csv").write_text("image,patient,institute\na,P1,X\nb.png,P1,X\n")
        assert [(region.patient, region.institute) for region in find(tmp_path)] == [
            ("P1", "X"),
            ("P1", "X"),
            ("c", ""),
        ]

    def test_a_table_of_patients_without_its_columns_is_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png"])
        (tmp_path / "patients.csv").write_text("file,person\na,P1\n")
        with pytest.raises(UsageError, match=r"patients\.csv has the columns \['file', 'person'\]"):
            find(tmp_path)

    def test_an_image_without_a_mask_is_named(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png", "b.png", "c.png"])
        (tmp_path / "masks" / "b.png").unlink()
        with pytest.raises(
            UsageError,
            match=r"1 of 3 images in images/ have no mask in masks/; the first is b\.png",
        ):
            find(tmp_path)

    def test_two_masks_of_one_image_are_named(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png"])
        save(tmp_path / "masks" / "a_mask.png", CODES)
        with pytest.raises(UsageError, match=r"a\.png and .*a_mask\.png are masks of one image"):
            find(tmp_path)

    def test_two_images_of_one_name_are_named(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png"])
        save(tmp_path / "images" / "a.tif")
        with pytest.raises(UsageError, match=r"a\.png and .*a\.tif have the same name"):
            find(tmp_path)

    def test_real_folders_are_found(self, shared_data: Path) -> None:
        assert [region.region_id for region in find(shared_data / "bcss", mpp=0.25)] == [
            "1008",
            "1015",
        ]
        tiles = find(shared_data / "camelyon", mpp=0.25)
        assert len(tiles) == 32
        assert all(region.binary for region in tiles)


class TestCodesOrBlackAndWhite:
    @pytest.mark.parametrize(
        ("suffix", "mask", "binary"),
        [
            ("png", CODES, False),
            ("png", BLACK_AND_WHITE, True),
            ("png", CODES * 0, False),
            ("jpg", BLACK_AND_WHITE, True),
        ],
    )
    def test_black_and_white_masks_are_recognized(
        self, tmp_path: Path, suffix: str, mask: np.ndarray, binary: bool
    ) -> None:
        assert find(pairs(tmp_path, [f"a.{suffix}"], mask))[0].binary == binary

    def test_the_kind_of_masks_holds_for_the_whole_data_set(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png", "b.png"], BLACK_AND_WHITE)
        save(tmp_path / "masks" / "a.png", BLACK_AND_WHITE * 0)
        assert [region.binary for region in find(tmp_path)] == [True, True]

    def test_the_source_may_set_the_kind_of_masks(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png"], BLACK_AND_WHITE)
        assert not find(tmp_path, masks="codes")[0].binary
        assert find(pairs(tmp_path, ["a.png"], CODES), masks="binary")[0].binary

    def test_masks_of_0_and_1_need_a_setting(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="hold 0 and 1 only"):
            find(pairs(tmp_path, ["a.png"], CODES % 2))

    def test_codes_in_jpeg_masks_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"1 masks are JPEG.*a\.jpg"):
            find(pairs(tmp_path, ["a.jpg"]), masks="codes")

    def test_some_jpeg_masks_among_others_need_a_setting(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"1 of 2 masks are JPEG.*a\.jpg"):
            find(pairs(tmp_path, ["a.jpg", "b.png"]))


class TestPreTiledCopies:
    def tiled(self, folder: Path, size: str = "_512") -> Path:
        tiles = {
            "train": ["TCGA-A1-A0SK-DX1_x{}", "TCGA-OL-A5RW-DX1_x{}"],
            "val": ["TCGA-A1-A0SK-DX1_x9{}"],
        }
        for side, names in tiles.items():
            filled = [f"{name.format(k)}_MPP-0.2500_y0_x0.png" for name in names for k in range(2)]
            pairs(folder, filled, images=f"{side}{size}", masks=f"{side}_mask{size}")
        return folder

    @pytest.mark.parametrize("size", ["_512", "_224", ""])
    def test_sides_are_listed_and_tiles_keep_their_patient(self, tmp_path: Path, size: str) -> None:
        regions = find(self.tiled(tmp_path, size))
        assert sorted((region.patient, region.listed) for region in regions) == [
            *[("TCGA-A1-A0SK", "train")] * 2,
            *[("TCGA-A1-A0SK", "val")] * 2,
            *[("TCGA-OL-A5RW", "train")] * 2,
        ]
        assert {region.mpp for region in regions} == {0.25}

    def test_the_listed_sides_of_a_data_set_are_not_used(self, tmp_path: Path) -> None:
        regions = find(self.tiled(tmp_path))
        split = make_split(regions, SplitSpec(val=()))
        assert {region.patient for region in split.select(regions, "test")} == {"TCGA-OL-A5RW"}
        assert {region.patient for region in split.select(regions, "train")} == {"TCGA-A1-A0SK"}

    def test_test_images_without_masks_are_skipped(self, tmp_path: Path) -> None:
        self.tiled(tmp_path)
        save(tmp_path / "test_512" / "TCGA-A1-A0SQ-DX1.png")
        assert len(find(tmp_path)) == 6

    def test_training_images_without_masks_are_refused(self, tmp_path: Path) -> None:
        self.tiled(tmp_path)
        (tmp_path / "val_mask_512").rename(tmp_path / "elsewhere")
        with pytest.raises(UsageError, match="val_512/ has no masks: there is no val_mask_512/"):
            find(tmp_path)

    def test_a_tile_on_two_sides_is_named(self, tmp_path: Path) -> None:
        self.tiled(tmp_path)
        pairs(
            tmp_path,
            ["TCGA-A1-A0SK-DX1_x0_MPP-0.2500_y0_x0.png"],
            images="val_512",
            masks="val_mask_512",
        )
        with pytest.raises(UsageError, match=r"train_512.*and .*val_512.*have the same name"):
            find(tmp_path)

    def test_tiles_of_unknown_patients_are_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["1.png", "2.png"], images="train_512", masks="train_mask_512")
        with pytest.raises(
            UsageError, match=r"the patients of 2 of 2 tiles are not known.*patients\.csv"
        ):
            find(tmp_path)
        assert len(find(tmp_path, extra=True)) == 2
        (tmp_path / "patients.csv").write_text("image,patient\n1,P\n2,P\n")
        assert {region.patient for region in find(tmp_path)} == {"P"}


class TestSlidesWithAnnotations:
    def annotated(
        self, folder: Path, where: str = "annotations", name: str = "TCGA-E2-A14P-01Z.geojson"
    ) -> Path:
        folder.mkdir(exist_ok=True)
        write_tiff(folder / "TCGA-E2-A14P-01Z.tif", [picture(200, 300)], 0.5, 0.5)
        ring = [[100, 40], [160, 40], [160, 80], [100, 80]]
        far = [[x + 120, y + 100] for x, y in ring]
        features = [
            {
                "geometry": {"type": "Polygon", "coordinates": [points]},
                "properties": {"classification": {"name": "Tumor"}},
            }
            for points in (ring, far)
        ]
        (folder / where).mkdir(exist_ok=True)
        (folder / where / name).write_text(
            json.dumps({"type": "FeatureCollection", "features": features})
        )
        return folder

    @pytest.mark.parametrize("where", ["annotations", "."])
    @pytest.mark.parametrize("name", ["TCGA-E2-A14P-01Z.geojson", "TCGA-E2-A14P-01Z.tif.geojson"])
    def test_each_annotated_area_is_a_region_of_its_slide(
        self, tmp_path: Path, where: str, name: str
    ) -> None:
        one, two = find(self.annotated(tmp_path, where, name))
        assert (one.region_id, one.box) == ("TCGA-E2-A14P-01Z_xmin100_ymin40", Box(40, 100, 40, 60))
        assert two.box == Box(140, 220, 40, 60)
        assert {(r.patient, r.institute, r.mpp) for r in (one, two)} == {
            ("TCGA-E2-A14P", "E2", None)
        }
        assert load_region(one, load_scheme("tumor"), 0.5).rgb.shape == (40, 60, 3)

    def test_slides_and_annotations_may_stand_in_images_and_masks(self, tmp_path: Path) -> None:
        self.annotated(tmp_path, "masks")
        (tmp_path / "images").mkdir()
        (tmp_path / "TCGA-E2-A14P-01Z.tif").rename(tmp_path / "images" / "TCGA-E2-A14P-01Z.tif")
        assert len(find(tmp_path)) == 2

    def test_a_correction_makes_regions_of_its_changes(self, tmp_path: Path) -> None:
        data = self.annotated(tmp_path / "data")
        (found,) = data.rglob("*.geojson")
        exports = tmp_path / "exports"
        exports.mkdir()
        before = json.loads(found.read_text())
        kept = before["features"][:1]
        (exports / f"{found.name}.gz").write_bytes(
            gzip.compress(json.dumps({**before, "features": kept}).encode())
        )
        (one,) = find(data, exported=exports)
        assert one.exported == exports / f"{found.name}.gz"
        assert one.box == find(data)[1].box

    def test_corrections_without_a_change_or_an_export_are_refused(self, tmp_path: Path) -> None:
        data = self.annotated(tmp_path / "data")
        (found,) = data.rglob("*.geojson")
        exports = tmp_path / "exports"
        exports.mkdir()
        with pytest.raises(UsageError, match=r"0 exports of .* are in"):
            find(data, exported=exports)
        shutil.copy(found, exports)
        with pytest.raises(UsageError, match="no annotation of a slide differs from its export"):
            find(data, exported=exports)

    def test_a_slide_without_annotations_is_no_region(self, tmp_path: Path) -> None:
        self.annotated(tmp_path)
        write_tiff(tmp_path / "other.tif", [picture(64, 64)], 0.5, 0.5)
        assert len(find(tmp_path)) == 2

    def test_annotations_without_a_slide_are_named(self, tmp_path: Path) -> None:
        self.annotated(tmp_path, name="other.geojson")
        with pytest.raises(UsageError, match=r"other\.geojson belong to none of 1 slides"):
            find(tmp_path)


class TestNothingFits:
    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="nowhere: there is no such folder"):
            find(tmp_path / "nowhere")

    def test_the_message_lists_the_folders_and_the_known_layouts(self, tmp_path: Path) -> None:
        pairs(
            tmp_path / "BCSS_512", ["TCGA-A1-A0SK.png"], images="train_512", masks="train_mask_512"
        )
        with pytest.raises(
            UsageError,
            match=r"(?s)0 files and the folders BCSS_512/, BCSS_512/train_512/.*known layouts",
        ):
            find(tmp_path)

    def test_two_layouts_in_one_folder_are_named(self, tmp_path: Path) -> None:
        pairs(tmp_path, ["a.png"])
        pairs(tmp_path, ["TCGA-A1-A0SK.png"], images="train", masks="train_mask")
        with pytest.raises(UsageError, match="images and masks and pre-tiled sides"):
            find(tmp_path)

    @pytest.mark.parametrize(
        "setting", [{"mpp": 0}, {"share": 0}, {"masks": "colours"}, {"color": 1}]
    )
    def test_settings_out_of_range_are_refused(
        self, tmp_path: Path, setting: dict[str, object]
    ) -> None:
        with pytest.raises(ValidationError):
            DataSource(path=tmp_path, **setting)  # type: ignore[arg-type]
