"""Corrections of an export: only what a person said is truth."""

import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from standins import stored_labels

from noctile.pipeline.errors import UsageError
from noctile.pipeline.export.geojson import write_geojson
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.truth import corrections as module
from noctile.pipeline.truth.corrections import read_truth, same_shape
from noctile.pipeline.truth.drawing import draw_codes
from noctile.pipeline.truth.geojson import Annotation
from noctile.pipeline.truth.scheme import load_scheme

BCSS5, TUMOR = load_scheme("bcss5"), load_scheme("tumor")
SIDE = 48
NATIVE = Frame(Extent(2 * SIDE, 2 * SIDE), 0.25, 0.25)


def label_map(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3)
    labels = np.digitize(field / field.std(), [-1.0, -0.2, 0.5])
    return np.uint8([0, 21, 2, 1])[labels]


def export(folder: Path, labels: np.ndarray, name: str = "a") -> Path:
    """An export as `noctile export` writes it, of a slide scanned at 0.25 um with bounds."""
    source = stored_labels(
        folder / "results" / name, labels, slide_mpp=(0.25, 0.25), bounds_yx=(700, 900), block_px=64
    )
    path = folder / "exports" / f"{name}.geojson"
    path.parent.mkdir(exist_ok=True)
    write_geojson(source, path, simplify_um=0)
    return path


def as_qupath_writes(feature: dict[str, Any], turn: int = 1) -> dict[str, Any]:
    """The feature as another program returns it: float32, rounded, rings turned and reversed."""

    def ring(points: list[list[float]]) -> list[list[float]]:
        corners = np.round(np.float32(points[:-1]).astype(float) + 0.004, 2)
        corners = np.roll(corners, turn % len(corners), axis=0)[::-1]
        return [*corners.tolist(), corners[0].tolist()]

    shell, *holes = map(ring, feature["geometry"]["coordinates"])
    name = feature["properties"]["classification"]["name"]
    return {
        "type": "Feature",
        "id": feature["id"],
        "geometry": {"type": "Polygon", "coordinates": [shell, *holes[::-1]]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": name.capitalize(), "color": [200, 0, 0]},
        },
    }


def returned(path: Path) -> list[dict[str, Any]]:
    features = json.loads(path.read_text())["features"]
    return [as_qupath_writes(feature, k) for k, feature in enumerate(features)]


def drawing(label: str, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    """A rectangle that a person drew, in label-map pixels; a level-0 pixel is half of one."""
    left, top, right, bottom = 2 * x, 2 * y, 2 * (x + width), 2 * (y + height)
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {
        "type": "Feature",
        "id": str(uuid.uuid4()),
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": {"classification": {"name": label, "color": [0, 0, 0]}},
    }


def save(path: Path, features: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    data = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def drawn(path: Path, exported: Path, scheme: Any = BCSS5) -> np.ndarray:
    target = NATIVE.at(0.5)
    return draw_codes(read_truth(path, exported), scheme, NATIVE, target, target.box, "a")


def pixels_of(labels: np.ndarray, feature: dict[str, Any]) -> np.ndarray:
    """Pixels of an exported focus, found by flood fill from a pixel of its outline."""
    code = {"tumor": 1, "stroma": 2, "other": 21}[
        feature["properties"]["classification"]["name"].lower()
    ]
    parts, _ = ndimage.label(labels == code)
    corners = np.array(feature["geometry"]["coordinates"][0])[:, ::-1] / 2
    top = corners[corners[:, 0] < corners[:, 0].min() + 0.1]
    y, x = np.round(top[top[:, 1].argmin()]).astype(int)
    return parts == parts[y, x]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Exports of four label maps, by the seed of each."""
    return {k: export(tmp_path_factory.mktemp("exports"), label_map(k)) for k in range(1, 5)}


class TestUnchanged:
    @pytest.mark.parametrize("ids", [True, False])
    def test_what_comes_back_as_it_was_is_no_truth(self, tmp_path: Path, ids: bool) -> None:
        exported = export(tmp_path, label_map(1))
        features = returned(exported)
        assert sum(len(f["geometry"]["coordinates"]) > 1 for f in features) >= 1
        if not ids:
            features = [{**feature, "id": None} for feature in features]
        assert read_truth(save(tmp_path / "fixed" / "a.geojson", features), exported) == ()

    def test_far_out_on_a_slide_float32_moves_no_corner(self) -> None:
        ring = np.array([[99_000.3, 120_000.7], [99_000.3, 130_000.1], [99_999.9, 120_000.7]])
        assert same_shape([ring], [np.round(np.float32(ring).astype(float), 2)])
        assert not same_shape([ring], [ring + np.array([[0, 0], [0, 1], [0, 0]])])

    def test_without_an_export_all_is_truth_as_before(self, tmp_path: Path) -> None:
        exported = export(tmp_path, label_map(1))
        target = NATIVE.at(0.5)
        codes = draw_codes(read_truth(exported, None), BCSS5, NATIVE, target, target.box, "a")
        assert np.array_equal(codes, label_map(1))


class TestChanges:
    @settings(
        max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_the_truth_is_the_edited_raster(
        self, exports: dict[int, Path], tmp_path_factory: Any, data: st.DataObject
    ) -> None:
        """Any edits of any foci: the raster is that of the edits on a flood fill."""
        folder = tmp_path_factory.mktemp("edits")
        labels = label_map(seed := data.draw(st.integers(1, 4), "seed"))
        exported = exports[seed]
        framed = data.draw(st.booleans(), "framed")
        expected = labels.copy() if framed else np.zeros_like(labels)
        edited = []
        for feature in returned(exported):
            edit = data.draw(st.sampled_from(["none"] * 3 + ["class", "delete"]), "edit")
            here = pixels_of(labels, feature)
            if edit == "class":
                feature["properties"]["classification"]["name"] = "Necrosis"
                expected[here] = 4
            elif edit == "delete" and framed:
                expected[here] = 0
            edited += [feature] * (edit != "delete")
        for _ in range(data.draw(st.integers(0, 1), "new")):
            x, y = data.draw(st.tuples(*[st.integers(0, SIDE - 4)] * 2), "place")
            edited.append(drawing("Immune cells", x, y, 1, 1))
            expected[y, x] = 3
        if framed:
            edited.append(drawing("Region*", 5, 7, 30, 20))
            inside = np.zeros_like(labels)
            inside[7:27, 5:35] = 1
            expected[inside == 0] = 0
        if edited:
            path = save(folder / "fixed" / "a.geojson.gz", edited)
            assert np.array_equal(drawn(path, exported), expected)

    def test_an_area_that_was_given_up_is_the_only_other_tissue(self, tmp_path: Path) -> None:
        labels = np.full((SIDE, SIDE), 21, np.uint8)
        labels[10:20, 10:30] = 1
        exported = export(tmp_path, labels)
        features = returned(exported)
        (tumor,) = (f for f in features if f["properties"]["classification"]["name"] == "Tumor")
        tumor["geometry"]["coordinates"] = drawing("", 10, 10, 15, 10)["geometry"]["coordinates"]
        path = save(tmp_path / "fixed" / "a.geojson", features)
        expected = np.zeros_like(labels)
        expected[10:20, 10:25] = 1
        assert np.array_equal(drawn(path, exported), expected)  # five classes: which is not known
        expected[10:20, 25:30] = 21
        assert np.array_equal(drawn(path, exported, TUMOR), expected)

    def test_a_background_that_was_given_up_is_not_tumor(self, tmp_path: Path) -> None:
        labels = np.full((SIDE, SIDE), 21, np.uint8)
        labels[10:20, 10:30] = 1
        exported = export(tmp_path, labels)
        features = [f for f in returned(exported) if "Tumor" in str(f)]
        path = save(tmp_path / "b" / "a.geojson", [*features, drawing("ROI", 0, 0, SIDE, SIDE)])
        assert np.array_equal(drawn(path, exported, TUMOR), np.where(labels == 1, 1, 0))

    def test_a_deleted_focus_counts_in_a_frame_only(self, tmp_path: Path) -> None:
        labels = np.full((SIDE, SIDE), 21, np.uint8)
        labels[10:20, 10:30] = 1
        exported = export(tmp_path, labels)
        kept = [f for f in returned(exported) if "Tumor" not in str(f)]
        assert read_truth(save(tmp_path / "b" / "a.geojson", kept), exported) == ()
        framed = save(tmp_path / "c" / "a.geojson", [*kept, drawing("Region", 0, 0, 20, SIDE)])
        expected = np.full_like(labels, 21)
        expected[:, 20:] = 0
        assert np.array_equal(drawn(framed, exported, TUMOR), expected)

    def test_a_changed_area_lies_over_a_smaller_unchanged_one(self, tmp_path: Path) -> None:
        labels = np.full((SIDE, SIDE), 2, np.uint8)
        labels[20:24, 20:24] = 1
        exported = export(tmp_path, labels)
        edits = [drawing("Necrosis", 10, 10, 20, 20), drawing("Region*", 0, 0, SIDE, SIDE)]
        codes = drawn(save(tmp_path / "b" / "a.geojson", [*returned(exported), *edits]), exported)
        assert (codes[10:30, 10:30] == 4).all()
        assert (codes == 2).sum() == SIDE**2 - 400


class TestRefusals:
    def test_the_export_itself_is_no_correction(self, tmp_path: Path) -> None:
        exported = export(tmp_path, label_map(1))
        with pytest.raises(UsageError, match="the export itself"):
            read_truth(exported, exported)

    def test_another_export_is_no_original(self, tmp_path: Path) -> None:
        exported = export(tmp_path, label_map(1))
        other = export(tmp_path, label_map(2), "b")
        features = json.loads(other.read_text())["features"]
        features = [{**f, "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f["id"]))} for f in features]
        with pytest.raises(UsageError, match="another export of Noctile"):
            read_truth(save(tmp_path / "b.geojson", features), exported)

    def test_too_many_changes_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exported = export(tmp_path, label_map(1))
        monkeypatch.setattr(module, "MAX_FEATURES", 2)
        unchanged = save(tmp_path / "b" / "a.geojson", returned(exported))
        assert read_truth(unchanged, exported) == ()
        new = [drawing("Tumor", k, k, 2, 2) for k in range(3)]
        with pytest.raises(UsageError, match="hold 3 features, more than 2"):
            read_truth(save(tmp_path / "c" / "a.geojson", new), exported)

    def test_a_missing_export_is_named(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.geojson", [drawing("Tumor", 0, 0, 2, 2)])
        with pytest.raises(UsageError, match=r"a\.geojson cannot be read.*No such file"):
            read_truth(path, tmp_path / "none.geojson")

    def test_thousands_of_shapes_at_one_place_take_no_time(self) -> None:
        inner = [(1 + k % 40 / 5, 1 + k // 40 / 5) for k in range(1000)]
        rings = [np.array([[0, 0], [0, 9], [9, 9], at]) for at in inner]
        many = [Annotation("Tumor", ((ring,),)) for ring in rings]
        fewer = module.corrections(many[::-1], many, "a")
        assert len(fewer) >= len(many) - 20  # more than _MOST_CANDIDATES are not compared


def test_a_point_of_the_audit_is_no_feature_of_an_export(tmp_path: Path) -> None:
    exported = export(tmp_path, label_map(1))
    point = drawing("Tumor", 0, 0, 1, 1)
    point |= {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, "p"))}
    point["geometry"] = {"type": "Point", "coordinates": [20, 30]}
    (one,) = read_truth(save(tmp_path / "a.geojson", [point]), exported)
    assert (one.point, one.box) == ((30, 20), Box(30, 20, 1, 1))
