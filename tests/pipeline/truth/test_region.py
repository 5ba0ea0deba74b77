"""Pixels of a region and their classes."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_slides import picture, write_tiff

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.truth import corrections
from noctile.pipeline.truth import region as region_module
from noctile.pipeline.truth.points import disc
from noctile.pipeline.truth.region import NEAR_WHITE, Region, load_region, load_targets, read_mask
from noctile.pipeline.truth.scheme import IGNORED, ClassScheme, load_scheme

BCSS5, TUMOR = load_scheme("bcss5"), load_scheme("tumor")


def region(
    folder: Path, codes: np.ndarray, rgb: np.ndarray | None = None, **fields: object
) -> Region:
    """A region whose image and mask are PNG files in ``folder``; 0.25 um unless the fields say
    otherwise."""
    image, mask = folder / "one.png", folder / "one_mask.png"
    Image.fromarray(picture(*codes.shape[:2]) if rgb is None else rgb).save(image)
    Image.fromarray(codes).save(mask)
    given: dict[str, object] = {"image": image, "truth": mask, "mpp": 0.25, **fields}
    return Region("one", "patient", "", "source", **given)  # type: ignore[arg-type]


def random_codes(height: int, width: int, top: int = 22) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, top, (height, width), dtype=np.uint8)


def majority_by_hand(classes: np.ndarray, factor: int) -> np.ndarray:
    height, width = (-(-side // factor) for side in classes.shape)
    out = np.empty((height, width), np.uint8)
    for y, x in np.ndindex(height, width):
        block = classes[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        out[y, x] = np.bincount(block.ravel()).argmax()
    return out


class TestPoints:
    def sparse(self, folder: Path, *points: list[float], classes: str = "Tumor") -> Region:
        """Points on a slide of 0.5 um whose region is a box in it."""
        write_tiff(folder / "s.tif", [picture(200, 300)], 0.5, 0.5)
        marks = [
            {
                "geometry": {"type": "Point", "coordinates": point},
                "properties": {"classification": classes},
            }
            for point in points
        ]
        (folder / "s.geojson").write_text(json.dumps(marks))
        files = {"image": folder / "s.tif", "truth": folder / "s.geojson"}
        return Region("s", "p", "", "source", box=Box(40, 60, 100, 200), **files)  # type: ignore[arg-type]

    @pytest.mark.parametrize("mpp", [0.5, 1.0])
    def test_points_are_discs_and_their_places_in_the_region(
        self, tmp_path: Path, mpp: float
    ) -> None:
        found = load_region(self.sparse(tmp_path, [100, 80], [20, 20], [259, 41]), BCSS5, mpp)
        k = 0.5 / mpp
        assert found.points is not None
        assert found.points.tolist() == [[40 * k, 40 * k], [1 * k, 199 * k]]
        expected = np.full(found.targets.shape, IGNORED, np.uint8)
        for y, x in found.points:
            expected[disc((y, x), mpp, expected.shape)] = 0
        assert np.array_equal(found.targets, expected)

    def test_annotations_are_read_once_for_all_regions_of_a_slide(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        region = self.sparse(tmp_path, [40, 40], [199, 1])
        read, paths = corrections.read_annotations, []
        monkeypatch.setattr(
            corrections, "read_annotations", lambda path, **k: paths.append(path) or read(path, **k)
        )
        for _ in range(2):
            load_region(region, BCSS5, 0.5)
        assert paths == [region.truth]

    def test_points_of_ignored_areas_are_none(self, tmp_path: Path) -> None:
        found = load_region(self.sparse(tmp_path, [100, 80], classes="Ignore*"), BCSS5, 0.5)
        assert found.points is None
        assert (found.targets == IGNORED).all()

    def test_schemes_that_points_cannot_have_are_refused(self, tmp_path: Path) -> None:
        classes = BCSS5.classes
        counted = ClassScheme("mine", classes, {**BCSS5.sources, 0: 4})
        with pytest.raises(UsageError, match="mine counts code 0 as a class"):
            load_region(self.sparse(tmp_path, [100, 80]), counted, 0.5)
        many = ClassScheme("many", classes * 26, BCSS5.sources)
        with pytest.raises(UsageError, match="with points at most 127"):
            load_region(self.sparse(tmp_path, [100, 80]), many, 0.5)


class TestCodes:
    def test_at_its_own_pixel_size_nothing_is_resampled(self, tmp_path: Path) -> None:
        codes = random_codes(40, 60)
        found = load_region(region(tmp_path, codes), BCSS5, 0.25)
        assert np.array_equal(found.targets, BCSS5.targets(codes, ""))
        assert np.array_equal(found.rgb, picture(40, 60))
        assert found.mpp == 0.25

    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_at_whole_factors_a_pixel_has_the_class_of_most_pixels_under_it(
        self, tmp_path: Path, factor: int
    ) -> None:
        codes = random_codes(41, 62)
        found = load_region(region(tmp_path, codes), BCSS5, 0.25 * factor)
        assert np.array_equal(found.targets, majority_by_hand(BCSS5.targets(codes, ""), factor))
        assert found.targets.shape == found.rgb.shape[:2]
        assert found.mpp == 0.25 * factor

    @given(
        st.integers(1, 9), st.integers(1, 9), st.integers(2, 4), st.randoms(use_true_random=False)
    )
    def test_majorities_are_those_counted_by_hand(
        self, height: int, width: int, factor: int, chance: object
    ) -> None:
        codes = np.array(
            [[chance.choice((0, 1, IGNORED)) for _ in range(width)] for _ in range(height)],
            np.uint8,
        )  # type: ignore[attr-defined]
        assert np.array_equal(
            region_module._majority(codes, factor), majority_by_hand(codes, factor)
        )

    def test_at_other_factors_a_pixel_has_the_class_at_its_centre(self, tmp_path: Path) -> None:
        codes = random_codes(40, 60)
        found = load_region(region(tmp_path, codes), BCSS5, 0.4)
        centres = [((np.arange(n) + 0.5) * 1.6).astype(int) for n in (25, 38)]
        assert np.array_equal(
            found.targets, BCSS5.targets(codes, "")[np.ix_(centres[0], np.minimum(centres[1], 59))]
        )
        assert found.rgb.shape == (25, 38, 3)

    def test_the_pixels_are_those_of_a_run(self, tmp_path: Path) -> None:
        one = region(tmp_path, random_codes(50, 70))
        with closing(open_slide(one.image, mpp=0.25)) as reader:
            whole = reader.read(reader.info.frame.at(0.6).box, 0.6)
        assert np.array_equal(load_region(one, BCSS5, 0.6).rgb, whole)

    def test_targets_alone_are_the_same(self, tmp_path: Path) -> None:
        for one in (
            region(tmp_path, random_codes(50, 70)),
            region(tmp_path, random_codes(50, 70), ignore_white=True),
        ):
            assert np.array_equal(
                load_targets(one, BCSS5, 0.5), load_region(one, BCSS5, 0.5).targets
            )

    def test_near_white_pixels_are_ignored_if_the_source_sets_it(self, tmp_path: Path) -> None:
        rgb = np.full((4, 4, 3), NEAR_WHITE, np.uint8)
        rgb[0, 0, 1] -= 1
        codes = np.ones((4, 4), np.uint8)
        assert (load_region(region(tmp_path, codes, rgb), TUMOR, 0.25).targets == 0).all()
        white = load_region(region(tmp_path, codes, rgb, ignore_white=True), TUMOR, 0.25).targets
        assert (white == IGNORED).sum() == 15
        assert white[0, 0] == 0


class TestBinary:
    def test_white_is_tumor_and_black_is_other(self, tmp_path: Path) -> None:
        values = np.array([[0, 127, 128, 255]], np.uint8)
        assert load_region(region(tmp_path, values, binary=True), TUMOR, 0.25).targets.tolist() == [
            [1, 1, 0, 0]
        ]

    def test_marked_pixels_are_ignored_if_the_source_sets_it(self, tmp_path: Path) -> None:
        values = np.array([[0, 127, 128, 255]], np.uint8)
        one = region(tmp_path, values, binary=True, ignore_marked=True)
        assert load_region(one, TUMOR, 0.25).targets.tolist() == [[1, 1, IGNORED, IGNORED]]

    def test_one_is_tumor_where_there_is_only_0_and_1(self, tmp_path: Path) -> None:
        values = np.array([[0, 1, 1]], np.uint8)
        assert load_region(region(tmp_path, values, binary=True), TUMOR, 0.25).targets.tolist() == [
            [1, 0, 0]
        ]

    def test_a_nearly_black_jpeg_has_no_tumor(self, tmp_path: Path) -> None:
        one = region(
            tmp_path, np.zeros((16, 16), np.uint8), truth=tmp_path / "one.jpg", binary=True
        )
        Image.fromarray(np.tile(np.uint8([0, 1]), (16, 8))).save(one.truth, quality=100)
        assert read_mask(one.truth).max() == 1
        assert (load_region(one, TUMOR, 0.25).targets == 1).all()

    @pytest.mark.parametrize("name", ["bcss21", "bcss5"])
    def test_a_scheme_of_many_classes_does_not_fit(self, tmp_path: Path, name: str) -> None:
        one = region(tmp_path, np.zeros((4, 4), np.uint8), binary=True)
        with pytest.raises(
            UsageError, match=rf"one_mask\.png holds tumor or not.*{name}.*--classes tumor"
        ):
            load_region(one, load_scheme(name), 0.25)

    def test_real_masks_are_read(self, shared_data: Path) -> None:
        folder = shared_data / "camelyon"
        image = sorted((folder / "images").iterdir())[0]
        one = Region("a", "a", "", "", image, folder / "masks" / image.name, 0.5, binary=True)
        found = load_region(one, TUMOR, 0.5)
        white = np.asarray(Image.open(one.truth).convert("L")) > 127
        assert found.rgb.shape == (512, 512, 3)
        assert np.array_equal(found.targets == 0, white)


class TestMaskFiles:
    def test_the_same_values_come_out_of_png_palette_rgb_and_tiff(self, tmp_path: Path) -> None:
        codes = random_codes(9, 11)
        palette = Image.fromarray(codes)
        palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
        images = {
            "grey.png": Image.fromarray(codes),
            "palette.png": palette,
            "deep.png": Image.fromarray(codes.astype(np.uint16)),
        }
        images |= {"rgb.png": Image.fromarray(codes).convert("RGB"), "grey.tif": images["grey.png"]}
        for name, image in images.items():
            image.save(tmp_path / name)
            assert np.array_equal(read_mask(tmp_path / name), codes), name

    def test_one_bit_is_black_and_white(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[False, True]])).save(tmp_path / "bits.png")
        assert read_mask(tmp_path / "bits.png").tolist() == [[0, 255]]

    def test_colours_are_no_codes(self, tmp_path: Path) -> None:
        Image.fromarray(picture(8, 8)).save(tmp_path / "colours.png")
        with pytest.raises(UsageError, match=r"colours\.png is of mode RGB.*one value"):
            read_mask(tmp_path / "colours.png")

    def test_values_above_255_are_no_codes(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "deep.png")
        with pytest.raises(UsageError, match=r"deep\.png .* from 300 to 300"):
            read_mask(tmp_path / "deep.png")


class TestErrors:
    def test_a_mask_of_another_size_names_both_files_and_sizes(self, tmp_path: Path) -> None:
        one = region(tmp_path, np.zeros((20, 30), np.uint8), picture(20, 31))
        with pytest.raises(
            UsageError, match=r"one_mask\.png has 30 x 20 pixels.*one\.png has 31 x 20"
        ):
            load_region(one, TUMOR, 0.25)

    def test_unknown_codes_name_the_mask(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"one_mask\.png.*22 \(25 px\)"):
            load_region(region(tmp_path, np.full((5, 5), 22, np.uint8)), TUMOR, 0.25)

    def test_an_unknown_pixel_size_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"region one: .*pixel size is unknown"):
            load_region(region(tmp_path, np.zeros((5, 5), np.uint8), mpp=None), TUMOR, 0.25)

    @pytest.mark.parametrize("name", ["one.png", "one_mask.png"])
    def test_a_file_that_is_cut_short_is_named(self, tmp_path: Path, name: str) -> None:
        one = region(tmp_path, random_codes(64, 64))
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(UsageError, match=name.replace(".", r"\.")):
            load_region(one, BCSS5, 0.25)

    @pytest.mark.parametrize("name", ["one.png", "one_mask.png"])
    def test_a_file_that_is_gone_is_named(self, tmp_path: Path, name: str) -> None:
        one = region(tmp_path, random_codes(8, 8))
        (tmp_path / name).unlink()
        with pytest.raises(UsageError, match=name.replace(".", r"\.")):
            load_region(one, BCSS5, 0.25)

    def test_a_mask_that_is_no_image_is_named(self, tmp_path: Path) -> None:
        one = region(tmp_path, random_codes(8, 8))
        one.truth.write_text("not an image")
        with pytest.raises(UsageError, match=r"one_mask\.png cannot be read: it is neither"):
            load_region(one, BCSS5, 0.25)


class TestSlides:
    def annotated(self, folder: Path, box: Box) -> Region:
        slide = write_tiff(folder / "s.tif", [picture(200, 300)], 0.5, 0.5)
        ring = [[100, 40], [160, 40], [160, 80], [100, 80]]
        feature = {
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": "Tumor"},
        }
        (folder / "s.geojson").write_text(json.dumps([feature]))
        return Region("s", "s", "", "", slide, folder / "s.geojson", box=box)

    @pytest.mark.parametrize("mpp", [0.5, 1.0, 0.8])
    def test_pixels_and_annotations_are_those_of_the_box(self, tmp_path: Path, mpp: float) -> None:
        one = self.annotated(tmp_path, Box(20, 80, 100, 120))
        found = load_region(one, TUMOR, mpp)
        with closing(open_slide(one.image)) as reader:
            box = reader.info.frame.project(Box(20, 80, 100, 120), reader.info.frame.at(mpp))
            assert np.array_equal(found.rgb, reader.read(box, mpp))
        assert (found.targets == 0).sum() == pytest.approx(60 * 40 * (0.5 / mpp) ** 2, rel=0.03)
        assert np.argwhere(found.targets == 0).min(axis=0) == pytest.approx(
            np.array([20, 20]) * 0.5 / mpp, abs=1
        )
        assert np.array_equal(load_targets(one, TUMOR, mpp), found.targets)

    def test_a_box_is_cut_to_the_slide(self, tmp_path: Path) -> None:
        found = load_region(self.annotated(tmp_path, Box(150, 250, 100, 100)), TUMOR, 0.5)
        assert found.rgb.shape == (50, 50, 3)

    def test_annotations_outside_of_the_slide_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"s\.geojson.*outside of .*s\.tif"):
            load_region(self.annotated(tmp_path, Box(900, 900, 10, 10)), TUMOR, 0.5)
