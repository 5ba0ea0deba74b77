import pytest

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.masks import ngff
from noctile.pipeline.models.card import ClassInfo

CLASSES = (
    ClassInfo(code=7, name="stroma", color=(0, 255, 0), role="tissue"),
    ClassInfo(code=1, name="tumor", color=(255, 0, 0), role="tumor"),
)


def test_a_coarser_level_is_shifted_by_half_the_growth_of_its_pixel():
    frame = Frame(Extent(1000, 2000), 0.5, 0.25)
    scales = ngff.multiscale(
        "m", [frame.coarser(d) for d in (1, 2, 4)], frame, method={"type": "mode"}
    )
    for dataset, d in zip(scales["datasets"], (1, 2, 4), strict=True):
        scale, translation = dataset["coordinateTransformations"]
        assert scale["scale"] == [0.5 * d, 0.25 * d]
        assert translation["translation"] == [(d - 1) / 2 * 0.5, (d - 1) / 2 * 0.25]


def test_channels_come_first_and_are_not_moved():
    frame = Frame(Extent(10, 10), 8.0, 8.0)
    scales = ngff.multiscale(
        "m", [frame], Frame(Extent(160, 160), 0.5, 0.5), channels=True, method={}
    )
    assert [axis["name"] for axis in scales["axes"]] == ["c", "y", "x"]
    assert [axis.get("unit") for axis in scales["axes"]] == [None, "micrometer", "micrometer"]
    scale, translation = scales["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1.0, 8.0, 8.0]
    assert translation["translation"] == [0.0, 3.75, 3.75]


def test_every_label_has_a_colour_and_a_meaning_including_0():
    label = ngff.image_label(CLASSES)
    assert [c["label-value"] for c in label["colors"]] == [0, 1, 7]
    assert [p["label-value"] for p in label["properties"]] == [0, 1, 7]
    assert [p["class"] for p in label["properties"]] == ["not analysed", "tumor", "stroma"]
    assert label["colors"][0]["rgba"] == [0, 0, 0, 0]
    assert label["colors"][1]["rgba"][:3] == [255, 0, 0]
    assert label["source"] == {"image": "../../"}


def test_the_affine_maps_the_label_map_to_the_file_and_adds_the_bounds():
    affine = ngff.level0_affine(
        Frame(Extent(100, 100), 0.5, 0.52),
        {"mpp": [0.25, 0.26], "bounds_px": [3000, 70000, 200, 200]},
    )
    assert affine == [[2.0, 0.0, 3000.0], [0.0, 2.0, 70000.0]]


def test_provenance_without_the_slides_bounds_is_refused():
    with pytest.raises(ValueError, match="bounds_px"):
        ngff.level0_affine(Frame(Extent(1, 1), 1.0, 1.0), {"mpp": [1.0, 1.0]})
