"""GeoJSON for QuPath, read back by geopandas and by rules taken from QuPath's own parser."""

import json
import uuid
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from scipy import ndimage
from skimage.measure import label
from standins import stored_labels

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export import geojson
from noctile.pipeline.export.geojson import write_geojson
from noctile.pipeline.export.source import ExportSource


def nests(height: int, width: int, seed: int = 1) -> np.ndarray:
    """Label map with curved foci of three classes, holes, single pixels and glass."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((height, width)), 9)
    labels = np.digitize(field / field.std(), [-1.0, -0.2, 0.4]).astype(np.uint8)
    labels = np.array([0, 21, 2, 1], np.uint8)[labels]
    labels[rng.random(labels.shape) < 0.001] = 1
    return labels


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> ExportSource:
    """A slide scanned at 0.25 um/px with bounds, and its label map at 0.5 um/px."""
    folder = tmp_path_factory.mktemp("nests") / "a"
    place = {"slide_mpp": (0.25, 0.25), "bounds_yx": (1000, 3000), "block_px": 256}
    return stored_labels(folder, nests(600, 700), **place)


def exported(source: ExportSource, path: Path, **options: Any) -> dict[str, Any]:
    write_geojson(source, path, **options)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def collection(source, tmp_path_factory) -> dict[str, Any]:
    return exported(source, tmp_path_factory.mktemp("out") / "a.geojson")


def as_qupath_reads(feature: dict[str, Any]) -> tuple[str, str, dict[str, float]]:
    """Read a feature by the rules of QuPath's parser, and refuse what it refuses or ignores.

    Source: qupath-core, QuPathTypeAdapters and GsonTools.PathClassTypeAdapter.

    Returns:
        kind of object, name of its class, and its measurements.
    """
    assert feature["type"] == "Feature"
    assert str(uuid.UUID(feature["id"])) == feature["id"]  # any other id is ignored
    about = feature["properties"]
    assert about["objectType"] in {"annotation", "detection", "tile", "cell", "tmaCore"}
    assert isinstance(about["isLocked"], bool)
    kind = about["classification"]
    assert isinstance(kind["name"], str)
    assert kind["name"]
    assert len(kind["color"]) == 3  # without a colour the parser throws
    assert all(isinstance(value, int) and 0 <= value <= 255 for value in kind["color"])
    measured = about["measurements"]
    assert isinstance(measured, dict)
    assert all(isinstance(name, str) for name in measured)
    assert all(isinstance(value, float) for value in measured.values())
    assert feature["geometry"]["type"] in {"Polygon", "MultiPolygon"}
    return about["objectType"], kind["name"], measured


def drawn(collection: dict[str, Any], source: ExportSource) -> np.ndarray:
    """Draw the features into a label map: a pixel has the class that its centre lies in."""
    codes = {info.name: info.code for info in source.classes}
    labels = np.zeros(source.store.read_level(0).shape, np.uint8)
    scale_y, scale_x = source.qupath_scale
    for feature in collection["features"]:
        polygon = shapely.from_geojson(json.dumps(feature["geometry"]))
        x0, y0, x1, y1 = polygon.bounds
        rows = slice(int(y0 / scale_y), int(y1 / scale_y) + 2)
        columns = slice(int(x0 / scale_x), int(x1 / scale_x) + 2)
        y, x = np.mgrid[rows, columns] + 0.5
        inside = shapely.contains_xy(polygon, x * scale_x, y * scale_y)
        part = labels[rows, columns]
        assert not part[inside[: part.shape[0], : part.shape[1]]].any()  # no overlap
        part[inside[: part.shape[0], : part.shape[1]]] = codes[feature["properties"]["type"]]
    return labels


def test_qupath_reads_every_feature(collection):
    read = [as_qupath_reads(feature) for feature in collection["features"]]
    assert collection["type"] == "FeatureCollection"
    assert {name for _, name, _ in read} == {"tumor", "stroma", "other"}


def test_there_is_one_feature_for_each_connected_focus(source, collection):
    components = label(source.store.read_level(0), connectivity=1, background=0)
    assert len(collection["features"]) == components.max()


def test_geopandas_reads_valid_polygons_with_holes(source, tmp_path):
    write_geojson(source, tmp_path / "a.geojson")
    frame = geopandas.read_file(tmp_path / "a.geojson")
    assert frame.geometry.is_valid.all()
    assert set(frame.geom_type) == {"Polygon"}
    assert frame.geometry.map(lambda polygon: len(polygon.interiors)).sum() > 10
    assert set(frame["type"]) == {"tumor", "stroma", "other"}
    assert frame["id"].is_unique


def test_areas_are_those_of_the_pixels_for_each_class_and_in_total(source, collection):
    frame = geopandas.GeoDataFrame.from_features(collection["features"])
    mm2 = frame.geometry.area * 0.25**2 / 1e6
    measured = frame["measurements"].map(lambda values: values["Area mm^2"])
    for name, area in source.class_area_mm2.items():
        assert measured[frame["type"] == name].sum() == pytest.approx(area, rel=1e-9)
        assert mm2[frame["type"] == name].sum() == pytest.approx(area, rel=0.005)
    assert mm2.sum() == pytest.approx(sum(source.class_area_mm2.values()), rel=0.005)


@pytest.mark.parametrize("simplify_um", [None, 0.0])
def test_drawing_the_features_gives_the_label_map_back(source, tmp_path, simplify_um):
    made = exported(source, tmp_path / "a.geojson", simplify_um=simplify_um)
    assert np.array_equal(drawn(made, source), source.store.read_level(0))


@pytest.mark.parametrize(
    ("mpp", "slide_mpp"), [((0.5, 0.5), (0.2527, 0.2527)), ((0.6, 0.5), (0.3, 0.25))]
)
def test_odd_and_uneven_pixel_sizes_line_up_to_a_pixel(tmp_path, mpp, slide_mpp):
    uneven = stored_labels(tmp_path / "a", nests(200, 260), mpp=mpp, slide_mpp=slide_mpp)
    made = exported(uneven, tmp_path / "a.geojson")
    assert np.array_equal(drawn(made, uneven), uneven.store.read_level(0))


def test_coordinates_count_level_0_pixels_from_the_bounds(tmp_path):
    labels = np.zeros((60, 80), np.uint8)
    labels[10:20, 30:50] = 1
    place = {"slide_mpp": (0.25, 0.125), "bounds_yx": (1000, 3000)}
    slide = stored_labels(tmp_path / "a", labels, **place)
    (feature,) = exported(slide, tmp_path / "a.geojson", simplify_um=0.0)["features"]
    assert shapely.from_geojson(json.dumps(feature["geometry"])).bounds == (120, 20, 200, 40)


def test_coarse_outlines_keep_the_areas(source, tmp_path):
    made = exported(source, tmp_path / "a.geojson", simplify_um=4.0)
    frame = geopandas.GeoDataFrame.from_features(made["features"])
    assert frame.geometry.is_valid.all()
    for name, area in source.class_area_mm2.items():
        mm2 = frame.geometry[frame["type"] == name].area.sum() * 0.25**2 / 1e6
        assert mm2 == pytest.approx(area, rel=0.005)
    assert made["noctile"]["simplified_by_at_most_um"] == 4.0


def test_the_file_states_simplification_and_connectivity(collection):
    assert collection["noctile"] == {
        "slide_id": "a",
        "model": "standin",
        "label_map_mpp_um": [0.5, 0.5],
        "connectivity": "4 neighbours",
        "simplified_by_at_most_um": 0.15,
        "foci_left_out_below_um2": 0.0,
        "holes_filled_below_um2": 0.0,
    }


def test_few_foci_are_annotations_and_many_are_detections(source, tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "MAX_ANNOTATIONS", 300)
    all_of_them = exported(source, tmp_path / "all.geojson")["features"]
    few = exported(source, tmp_path / "few.geojson", min_area_um2=10.0)["features"]
    assert len(few) < 300 < len(all_of_them)
    assert {as_qupath_reads(feature)[0] for feature in all_of_them} == {"detection"}
    assert {as_qupath_reads(feature)[0] for feature in few} == {"annotation"}


def test_small_foci_and_other_classes_are_left_out_on_request(source, tmp_path):
    made = exported(source, tmp_path / "a.geojson", classes=("tumor",), min_area_um2=1.0)
    read = [as_qupath_reads(feature) for feature in made["features"]]
    assert {name for _, name, _ in read} == {"tumor"}
    assert min(measured["Area mm^2"] for *_, measured in read) >= 1e-6


def test_an_unknown_class_is_named_with_the_nearest(source, tmp_path):
    with pytest.raises(StoreError, match="a has no class tumour; did you mean 'tumor'"):
        write_geojson(source, tmp_path / "a.geojson", classes=("tumour",))


def test_the_same_result_makes_the_same_bytes_and_ids_are_unique(source, collection, tmp_path):
    write_geojson(source, tmp_path / "a.geojson")
    write_geojson(source, tmp_path / "b.geojson")
    assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()
    ids = [feature["id"] for feature in collection["features"]]
    assert len(set(ids)) == len(ids)


def test_the_size_of_strips_and_batches_changes_no_focus(source, collection, tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "_STRIP_PX", 7 * 700)
    monkeypatch.setattr(geojson, "_READ_PX", 100 * 700)
    monkeypatch.setattr(geojson, "_BATCH_CORNERS", 99)
    made = exported(source, tmp_path / "a.geojson")
    areas = [
        {f["id"]: f["properties"]["measurements"] for f in c["features"]}
        for c in (made, collection)
    ]
    assert areas[0] == areas[1]
    assert np.array_equal(drawn(made, source), source.store.read_level(0))


def test_a_large_focus_is_written_in_batches(source, collection, tmp_path, monkeypatch):
    monkeypatch.setattr(geojson, "LARGE_CORNERS", 500)
    monkeypatch.setattr(geojson, "_BATCH_CORNERS", 400)
    monkeypatch.setattr(geojson, "_PIECE_BYTES", 1000)
    made = exported(source, tmp_path / "a.geojson")
    assert [f["id"] for f in made["features"]] == [f["id"] for f in collection["features"]]
    assert [as_qupath_reads(f) for f in made["features"]] == [
        as_qupath_reads(f) for f in collection["features"]
    ]
    assert np.array_equal(drawn(made, source), source.store.read_level(0))


def test_a_slide_without_tissue_makes_an_empty_collection(tmp_path):
    empty = stored_labels(tmp_path / "a", np.zeros((50, 70), np.uint8))
    assert exported(empty, tmp_path / "a.geojson")["features"] == []


def test_texts_of_the_result_are_escaped(source, tmp_path):
    nasty = ExportSource(
        'a"</script>', source.slide_path, source.store, {**source.summary, "model": "\0\n\u2028"}
    )
    made = exported(nasty, tmp_path / "a.geojson")
    assert made["noctile"]["slide_id"] == 'a"</script>'
    assert made["noctile"]["model"] == "\0\n\u2028"
