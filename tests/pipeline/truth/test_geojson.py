"""Annotations: their areas, their classes, and the pixels inside of them."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.truth.drawing import draw_codes
from noctile.pipeline.truth.geojson import (
    Annotation,
    class_codes,
    read_annotations,
    region_boxes,
)
from noctile.pipeline.truth.scheme import load_scheme

FRAME = Frame(Extent(60, 80), 0.5, 0.5)
BCSS5 = load_scheme("bcss5")


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(
    label: Any, *rings: list[list[float]], name: str | None = None, kind: str = "Polygon"
) -> dict[str, Any]:
    properties = {"objectType": "annotation", "name": name}
    if label is not None:
        properties["classification"] = (
            label if isinstance(label, dict) else {"name": label, "color": [200, 0, 0]}
        )
    coordinates = list(rings) if kind == "Polygon" else [[ring] for ring in rings]
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
    }


def save(path: Path, features: Any) -> Path:
    data = json.dumps(features).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(folder: Path, *features: dict[str, Any]) -> list[Annotation]:
    return read_annotations(
        save(folder / "a.geojson", {"type": "FeatureCollection", "features": list(features)})
    )


def drawn(annotations: list[Annotation], mpp: float = 0.5, box: Box | None = None) -> np.ndarray:
    target = FRAME.at(mpp)
    return draw_codes(annotations, BCSS5, FRAME, target, box or target.box, "annotations a.geojson")


class TestPoints:
    def marks(self, folder: Path, kind: str, coordinates: Any) -> list[Annotation]:
        one = feature("Tumor", kind=kind)
        one["geometry"]["coordinates"] = coordinates
        return read_annotations(save(folder / "a.geojson", [one]), points=True)

    def test_each_point_is_an_annotation(self, tmp_path: Path) -> None:
        found = self.marks(tmp_path, "MultiPoint", [[3.5, 4.5], [7, 8]])
        assert [a.point for a in found] == [(4.5, 3.5), (8.0, 7.0)]
        assert [a.box for a in found] == [Box(4, 3, 1, 1), Box(8, 7, 1, 1)]
        assert self.marks(tmp_path, "Point", [3.5, 4.5])[0].point == (4.5, 3.5)

    @pytest.mark.parametrize(
        ("kind", "coordinates"),
        [
            *(("Point", value) for value in ([], [1], "ab", [float("nan"), 1], [1e30, 1], None)),
            *(("MultiPoint", value) for value in ([], [1, 2], [[1]], [[1, 2], [1]], {})),
            ("LineString", [[1, 2], [3, 4]]),
        ],
    )
    def test_strange_points_are_refused(self, tmp_path: Path, kind: str, coordinates: Any) -> None:
        with pytest.raises(UsageError, match=r"feature 1.* is "):
            self.marks(tmp_path, kind, coordinates)

    def test_points_are_refused_where_areas_are_needed(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a Point; only polygons"):
            read(tmp_path, feature("Tumor", kind="Point"))

    def test_too_many_points_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(UsageError, match="hold 20001 features"):
            self.marks(tmp_path, "MultiPoint", [[k, k] for k in range(20_001)])

    def test_the_region_of_a_point_are_its_surroundings(self, tmp_path: Path) -> None:
        found = self.marks(tmp_path, "MultiPoint", [[2000, 3000], [2100, 3100], [9000, 200]])
        assert region_boxes(found) == [
            Box(-312, 8488, 1025, 1025),
            Box(2488, 1488, 1125, 1125),
        ]


class TestReading:
    def test_a_collection_a_list_and_one_feature_are_the_same(self, tmp_path: Path) -> None:
        one = feature("Tumor", square(10, 20, 5))
        files = [{"type": "FeatureCollection", "features": [one]}, [one], one]
        shapes = [
            read_annotations(save(tmp_path / f"{k}.geojson", file)) for k, file in enumerate(files)
        ]
        assert [[a.label for a in found] for found in shapes] == [["Tumor"]] * 3
        assert all(
            np.array_equal(found[0].polygons[0][0], shapes[0][0].polygons[0][0]) for found in shapes
        )

    def test_gzip_is_unpacked(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.geojson.gz", [feature("Stroma", square(1, 2, 3))])
        assert read_annotations(path)[0].box == Box(2, 1, 3, 3)

    def test_a_class_is_a_string_an_object_or_a_list_of_names(self, tmp_path: Path) -> None:
        area = square(0, 0, 4)
        found = read(
            tmp_path,
            feature({"name": "Stroma"}, area),
            feature({"names": ["Tumor", "Positive"]}, area),
        )
        assert [annotation.label for annotation in found] == ["Stroma", "Tumor: Positive"]
        plain = feature("Tumor", area)
        plain["properties"]["classification"] = "Tumor"
        assert read(tmp_path, plain)[0].label == "Tumor"

    def test_x_comes_first_in_a_file_and_a_third_coordinate_is_dropped(
        self, tmp_path: Path
    ) -> None:
        ring = [[*point, 0] for point in square(30, 4, 8)]
        assert read(tmp_path, feature("Tumor", ring))[0].box == Box(4, 30, 8, 8)

    @pytest.mark.parametrize(
        ("label", "name"),
        [("ROI", None), ("Region*", None), (None, "roi 3"), (None, "Region of interest")],
    )
    def test_frames_are_known_by_class_or_name(
        self, tmp_path: Path, label: str | None, name: str | None
    ) -> None:
        assert read(tmp_path, feature(label, square(0, 0, 9), name=name))[0].label is None

    def test_a_class_whose_name_begins_like_a_frame_is_a_class(self, tmp_path: Path) -> None:
        assert (
            read(tmp_path, feature("Regional", square(0, 0, 9), name="ROI"))[0].label == "Regional"
        )

    @pytest.mark.parametrize(
        ("features", "message"),
        [
            ([feature(None, square(0, 0, 2), name="left")], r"feature 1 \(left\) has no class"),
            (
                [feature("Tumor", square(0, 0, 2)), {"geometry": None}],
                "feature 2 is not a GeoJSON feature",
            ),
            ([feature("Tumor", [])], "feature 1 is not"),
            ([feature("Tumor", [[1, 2], [3, None], [4, 5]])], "feature 1 is not"),
            ([feature("Tumor", [[1, 2], [3, 4]], kind="LineString")], "is a LineString"),
            ([], "hold no features"),
            ("text", "hold no features"),
        ],
    )
    def test_a_feature_without_a_polygon_or_class_is_named(
        self, tmp_path: Path, features: Any, message: str
    ) -> None:
        with pytest.raises(UsageError, match=rf"a\.geojson.*{message}"):
            read_annotations(save(tmp_path / "a.geojson", features))

    @pytest.mark.parametrize("data", [b"{", b"\x1f\x8bnot gzip", b"\xff\xfe\x00"])
    def test_a_damaged_file_is_named(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.geojson").write_bytes(data)
        with pytest.raises(UsageError, match=r"a\.geojson cannot be read"):
            read_annotations(tmp_path / "a.geojson")


class TestClasses:
    @pytest.mark.parametrize(
        ("label", "code"),
        [
            *[
                ("Tumor", 1),
                ("tumour", 1),
                ("Stroma", 2),
                ("Immune cells", 3),
                ("immune_cells", 3),
                ("Necrosis", 4),
            ],
            *[
                ("Other", 21),
                ("DCIS", 20),
                ("Blood Vessel", 18),
                ("normal acinus-or-duct", 13),
                ("Ignore*", 0),
            ],
        ],
    )
    def test_names_of_bcss_and_qupath_are_known_however_they_are_written(
        self, tmp_path: Path, label: str, code: int
    ) -> None:
        assert set(drawn(read(tmp_path, feature(label, square(-1, -1, 99)))).ravel()) == {code}

    def test_names_of_the_scheme_are_known(self) -> None:
        assert class_codes(BCSS5)["inflammatory"] == 3

    def test_an_unknown_name_lists_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(
            UsageError, match=r"a\.geojson: class 'Carcinoma' is not known.*dcis.*tumor"
        ):
            drawn(read(tmp_path, feature("Carcinoma", square(0, 0, 9))))


class TestDrawing:
    def test_a_pixel_is_inside_if_its_centre_is(self, tmp_path: Path) -> None:
        codes = drawn(read(tmp_path, feature("Tumor", square(10.4, 20.6, 5))))
        assert (codes[21:26, 10:15] == 1).all()
        assert (codes == 1).sum() == 25

    def test_holes_are_outside(self, tmp_path: Path) -> None:
        codes = drawn(read(tmp_path, feature("Tumor", square(10, 10, 20), square(15, 15, 5))))
        assert (codes == 1).sum() == 20 * 20 - 5 * 5
        assert codes[17, 17] == 0

    def test_each_part_of_a_multipolygon_is_drawn(self, tmp_path: Path) -> None:
        codes = drawn(
            read(
                tmp_path, feature("Tumor", square(0, 0, 4), square(50, 30, 6), kind="MultiPolygon")
            )
        )
        assert (codes == 1).sum() == 16 + 36

    def test_a_small_area_lies_over_a_large_one_whatever_their_order(self, tmp_path: Path) -> None:
        large, small = feature("Stroma", square(0, 0, 40)), feature("Tumor", square(10, 10, 5))
        codes = drawn(read(tmp_path, large, small))
        assert np.array_equal(codes, drawn(read(tmp_path, small, large)))
        assert (codes == 1).sum() == 25
        assert (codes == 2).sum() == 1600 - 25

    def test_pixels_outside_of_the_frames_have_no_class(self, tmp_path: Path) -> None:
        codes = drawn(
            read(tmp_path, feature("ROI", square(0, 0, 10)), feature("Tumor", square(5, 5, 20)))
        )
        assert (codes == 1).sum() == 25
        assert (codes[:10, :10] == 1).sum() == 25

    def test_any_box_is_the_crop_of_the_whole(self, tmp_path: Path) -> None:
        annotations = read(
            tmp_path, feature("Tumor", [[3, 2], [70, 9], [33.3, 55.5]], square(30, 20, 4))
        )
        box = Box(7, 11, 23, 31)
        assert np.array_equal(drawn(annotations, box=box), drawn(annotations)[box.slices()])

    def test_coordinates_are_pixels_of_level_0_at_any_pixel_size(self, tmp_path: Path) -> None:
        annotations = read(tmp_path, feature("Tumor", square(20, 10, 40)))
        assert (drawn(annotations, 1.0)[5:25, 10:30] == 1).all()
        assert (drawn(annotations, 1.0) == 1).sum() == 400
        assert (drawn(annotations, 0.8) == 1).sum() == 25 * 25

    @given(st.lists(st.tuples(st.floats(-10, 70), st.floats(-10, 90)), min_size=3, max_size=9))
    def test_it_agrees_with_scikit_image_up_to_pixels_on_the_edge(
        self, points: list[tuple[float, float]]
    ) -> None:
        ring = np.array(points) + np.array([0.1234567, 0.7654321])
        mine = drawn([Annotation("Tumor", ((ring,),))]) == 1
        theirs = polygon2mask((60, 80), ring - 0.5)
        y, x = np.nonzero(mine != theirs)
        start, stop = ring, np.roll(ring, -1, axis=0)
        along = stop - start
        to = np.stack([y + 0.5, x + 0.5], axis=1)[:, None] - start
        share = np.clip((to * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12), 0, 1)
        distance = np.linalg.norm(to - share[..., None] * along, axis=-1)
        assert (distance.min(axis=1, initial=np.inf) < 1e-6).all()


class TestRegions:
    def test_the_boxes_of_frames_are_the_regions(self, tmp_path: Path) -> None:
        tumors = [feature("Tumor", square(x, 12, 9)) for x in (0, 25)]
        frames = [feature("ROI", square(20, 10, 30)), feature("Region*", square(100, 100, 50))]
        assert region_boxes(read(tmp_path, *tumors, *frames)) == [Box(10, 20, 30, 30)]

    def test_large_ones_are_cut_and_parts_without_annotations_left_out(
        self, tmp_path: Path
    ) -> None:
        found = read(
            tmp_path, feature("Tumor", square(5, 5, 10)), feature("Tumor", square(20_000, 0, 10))
        )
        frame = feature("ROI", square(0, 0, 20_010))
        assert region_boxes([*found, *read(tmp_path, frame)]) == [
            Box(0, 0, 8192, 8192),
            Box(0, 16384, 8192, 3626),
        ]

    def test_without_frames_boxes_that_overlap_are_joined(self, tmp_path: Path) -> None:
        squares = [square(0, 0, 10), square(20, 0, 10), square(8, 5, 15), square(60, 40, 5)]
        found = read(tmp_path, *(feature("Tumor", ring) for ring in squares))
        assert region_boxes(found) == [Box(0, 0, 20, 30), Box(40, 60, 5, 5)]

    @given(
        st.lists(
            st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(1, 20)] * 2), min_size=1, max_size=12
        )
    )
    def test_regions_cover_all_annotations_and_no_two_overlap(
        self, boxes: list[tuple[int, int, int, int]]
    ) -> None:
        annotations = [
            Annotation(
                "Tumor",
                ((np.array([[y, x], [y, x + w], [y + h, x + w], [y + h, x]], np.float64),),),
            )
            for y, x, h, w in boxes
        ]
        regions = region_boxes(annotations)
        assert all(any(region.contains(a.box) for region in regions) for a in annotations)
        assert all(
            not one.intersect(other).area
            for one in regions
            for other in regions
            if one is not other
        )
        assert region_boxes(annotations[::-1]) == regions
