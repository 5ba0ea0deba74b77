"""Automatic masks of images and slides: written files, existing files, and failures."""

import csv
import json
import uuid
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from tiny_slides import pyramid, write_tiff

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.stain_candidates import STAINS
from noctile.workflows.commands import annotate as annotate_module
from noctile.workflows.commands.annotate import annotate, find_slide_candidates


def nests(
    height: int = 900, width: int = 1100, spacing_px: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of 0.5 um/px: eosin with two nests of large nuclei, glass on the right; and where
    the nests are."""
    y, x = np.indices((height, width))
    nest = (np.hypot(y - 300, x - 350) < 180) | ((abs(y - 650) < 120) & (abs(x - 500) < 250))
    nucleus = np.hypot(y % spacing_px - spacing_px // 2, x % spacing_px - spacing_px // 2) < 9
    h = np.where(nest & nucleus, 0.8, 0.05) + np.random.default_rng(0).normal(
        0, 0.02, (height, width)
    )
    e = ndimage.gaussian_filter(np.where(nest, 0.2, 0.35), 2)
    density = h[..., None] * np.array(STAINS[0]) + e[..., None] * np.array(STAINS[1])
    density[:, 900:] = 0
    return np.clip(244 * 10**-density - 1, 0, 255).round().astype(np.uint8), nest


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "images"
    folder.mkdir()
    Image.fromarray(nests()[0]).save(folder / "region_MPP-0.5.png")
    Image.fromarray(nests()[0][150:406, 250:506]).save(folder / "tile.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(
        tmp_path_factory.mktemp("slides") / "slide.tif", pyramid(nests()[0], 4), 0.5, 0.5
    )


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return abs(float(x[:-1] @ y[1:] - y[:-1] @ x[1:])) / 2


def test_an_image_gets_a_mask_of_codes_of_its_own_size_and_name(
    images: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    rows = annotate([images / "region_MPP-0.5.png"], tmp_path / "masks", say=said.append)
    with Image.open(tmp_path / "masks" / "region_MPP-0.5.png") as image:
        assert image.mode == "L"
        codes = np.asarray(image)
    assert codes.shape == (900, 1100)
    assert dice(codes == 1, nests()[1]) > 0.93
    assert (codes[:, 930:] == 0).all()
    assert (codes[20:80, 20:880] == 21).mean() > 0.95
    (row,) = rows
    assert (row.slide_id, row.status, row.file, row.mpp_source) == (
        *("region_MPP-0.5", "done", "region_MPP-0.5.png"),
        "file name",
    )
    assert row.candidate_mm2 == pytest.approx(np.count_nonzero(nests()[1]) * 0.25e-6, rel=0.1)
    assert len(said) == 1
    assert said[0].startswith("region_MPP-0.5: region_MPP-0.5.png, candidates 0.0")


def test_a_folder_of_images_gets_a_mask_for_each(images: Path, tmp_path: Path) -> None:
    annotate([images], tmp_path, mpp=0.5)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "annotated.csv",
        "region_MPP-0.5.png",
        "tile.png",
    ]


def test_a_tiff_of_one_level_without_a_scanner_is_an_image_too(
    images: Path, tmp_path: Path
) -> None:
    with Image.open(images / "tile.jpg") as image:
        image.save(tmp_path / "tile.tif")
    annotate([tmp_path / "tile.tif", images / "tile.jpg"], tmp_path / "masks", mpp=0.5)
    one, other = sorted((tmp_path / "masks").glob("*_tile.png"))
    assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def test_a_tile_smaller_than_the_smallest_tissue_of_a_slide_is_annotated(
    images: Path, tmp_path: Path
) -> None:
    (row,) = annotate([images / "tile.jpg"], tmp_path, mpp=0.5)
    codes = np.asarray(Image.open(tmp_path / "tile.png"))
    assert row.tissue_mm2 == pytest.approx(0.0164, rel=0.05)  # a slide's is 0.02
    assert dice(codes == 1, nests()[1][150:406, 250:506]) > 0.8


def test_a_slide_gets_annotations_that_qupath_reads(slide: Path, tmp_path: Path) -> None:
    (row,) = annotate([slide], tmp_path)
    collection = json.loads((tmp_path / "slide.geojson").read_text())
    assert collection["type"] == "FeatureCollection"
    areas = dict.fromkeys(("Tumor", "Other"), 0.0)
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        assert uuid.UUID(feature["id"])
        assert feature["geometry"]["type"] == "Polygon"
        assert feature["properties"]["objectType"] == "annotation"
        kind = feature["properties"]["classification"]
        assert len(kind["color"]) == 3
        rings = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] for ring in rings)
        assert all(0 <= x <= 1100 and 0 <= y <= 900 for ring in rings for x, y in ring)
        areas[kind["name"]] += area(rings[0]) - sum(map(area, rings[1:]))
    assert areas["Tumor"] * 0.25e-6 == pytest.approx(row.candidate_mm2, rel=0.03)
    assert sum(areas.values()) * 0.25e-6 == pytest.approx(row.tissue_mm2, rel=0.03)


def test_outlines_lie_where_the_nests_are(slide: Path, tmp_path: Path) -> None:
    annotate([slide], tmp_path)
    features = json.loads((tmp_path / "slide.geojson").read_text())["features"]
    tumors = [
        f["geometry"]["coordinates"]
        for f in features
        if f["properties"]["classification"]["name"] == "Tumor"
    ]
    others = [
        f["geometry"]["coordinates"]
        for f in features
        if f["properties"]["classification"]["name"] == "Other"
    ]
    (box,) = (rings[0] for rings in tumors if max(x for x, _ in rings[0]) > 600)
    x, y = np.array(box).T
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((250, 750, 530, 770), abs=16)
    assert (
        sum(len(rings) - 1 for rings in others) >= 1
    )  # the nests are holes in what surrounds them


def test_a_failed_slide_is_named_and_stops_no_other(
    images: Path, slide: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"no slide")
    cut = tmp_path / "cut.png"
    cut.write_bytes((images / "region_MPP-0.5.png").read_bytes()[:5000])
    rows = annotate([broken, cut, images / "tile.jpg", slide], tmp_path / "out")
    found = {row.slide_id: (row.status, row.reason.partition(":")[0]) for row in rows}
    assert found == {
        "broken": ("failed", "unopenable"),
        "cut": ("failed", "mpp_missing"),
        "slide": ("done", ""),
        "tile": ("failed", "mpp_missing"),
    }
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "annotated.csv",
        "slide.geojson",
    ]
    (row,) = annotate([cut], tmp_path / "again", mpp=0.5)
    assert row.reason.startswith("unreadable: slide cut:")
    with (tmp_path / "out" / "annotated.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["status"] for line in table] == ["failed", "failed", "done", "failed"]
    assert float(table[2]["candidate_mm2"]) > 0


def test_existing_masks_are_not_changed(images: Path, slide: Path, tmp_path: Path) -> None:
    mine = {"tile.png": b"a pathologist's", "slide.geojson": b"another's"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    said: list[str] = []
    rows = annotate([images / "tile.jpg", slide], tmp_path, mpp=0.5, say=said.append)
    assert {row.status for row in rows} == {"kept"}
    assert {name: (tmp_path / name).read_bytes() for name in mine} == mine
    assert said == [
        "slide: slide.geojson exists already and is not changed",
        "tile: tile.png exists already and is not changed",
    ]


def test_a_mask_never_overwrites_an_image(images: Path) -> None:
    with pytest.raises(UsageError, match=r"the mask of .*region_MPP-0.5\.png would overwrite"):
        annotate([images], images, mpp=0.5)


def test_an_out_that_cannot_be_made_is_an_error(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--out .* cannot be written"):
        annotate([images], tmp_path / "file" / "masks")


def test_the_same_call_writes_the_same_bytes(slide: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        annotate([slide], tmp_path / name)
    assert (tmp_path / "a" / "slide.geojson").read_bytes() == (
        tmp_path / "b" / "slide.geojson"
    ).read_bytes()


@pytest.mark.parametrize("block_px", [64, 100, 256])
def test_the_size_of_blocks_changes_nothing(
    slide: Path, monkeypatch: pytest.MonkeyPatch, block_px: int
) -> None:
    with closing(open_slide(slide)) as reader:
        whole, _ = find_slide_candidates(reader)
        monkeypatch.setattr(annotate_module, "_BLOCK_PX", block_px)
        parts, _ = find_slide_candidates(reader)
    assert np.array_equal(parts.field, whole.field)


def test_no_more_than_a_block_with_its_margin_is_read_at_once(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_slide(slide)) as reader:
        read, boxes = reader.read, []
        monkeypatch.setattr(
            reader, "read", lambda box, mpp: boxes.append((box, mpp)) or read(box, mpp)
        )
        monkeypatch.setattr(annotate_module, "_BLOCK_PX", 64)
        find_slide_candidates(reader)
    fine = [box for box, mpp in boxes if mpp == 1.0]
    assert max(box.area for box in fine) <= (64 + 2 * 36) ** 2
    assert len(fine) > 20
    assert (
        max(box.x_stop for box in fine) == 512 + 36
    )  # all blocks farther right are glass, and are not read


def test_a_slide_without_h_and_e_gets_no_annotation(shared_data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (row,) = annotate([shared_data / "slides" / "fluorescence.ndpi"], tmp_path, say=said.append)
    assert (row.status, row.file, row.candidate_mm2) == ("no_tissue", "", 0)
    assert said == ["fluorescence: no tissue to mark (no_tissue not_h_and_e)"]
    assert [path.name for path in tmp_path.iterdir()] == ["annotated.csv"]
