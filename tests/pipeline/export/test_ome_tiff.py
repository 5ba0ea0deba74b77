import tracemalloc
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import ome_types
import pytest
import tifffile
from standins import stored_labels

from noctile.pipeline.export.ome_tiff import ome_xml, write_ome_tiff

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Mask of a 40x slide with bounds, whose pixels are not square."""
    labels = np.zeros((1300, 1700), np.uint8)
    labels[100:1250, 50:1600] = 2
    labels[300:900, 200:1500] = np.random.default_rng(0).choice([1, 21], (600, 1300))
    return stored_labels(
        tmp_path_factory.mktemp("tiff") / "s",
        labels,
        mpp=(0.5, 0.52),
        slide_mpp=(0.25, 0.26),
        bounds_yx=(3000, 4001),
    )


@pytest.fixture(scope="module")
def written(source, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("out") / "s.ome.tiff"
    write_ome_tiff(source, path)
    return path


def test_all_levels_equal_those_of_the_mask(source, written):
    with tifffile.TiffFile(written) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        (series,) = tiff.series
        assert len(series.levels) == len(source.frames)
        for level, pixels in enumerate(series.levels):
            np.testing.assert_array_equal(pixels.asarray(), source.store.read_level(level))


def test_tiles_and_subifds_are_those_that_viewers_expect(source, written):
    with tifffile.TiffFile(written) as tiff:
        (page,) = tiff.pages
        assert len(page.subifds) == len(source.frames) - 1
        for level, part in enumerate([page, *page.pages]):
            assert part.tile == (512, 512)
            assert part.photometric.name == "MINISBLACK"
            assert part.compression.name == "ADOBE_DEFLATE"
            assert part.subfiletype == (1 if level else 0)
            x, y = part.get_resolution("MICROMETER")
            assert (1 / x, 1 / y) == pytest.approx(
                (source.frames[level].mpp_x, source.frames[level].mpp_y), rel=1e-6
            )


def test_areas_are_those_of_the_summary(source, written):
    with tifffile.TiffFile(written) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
        labels = tiff.asarray()
    pixels = root.find(f"{OME}Image/{OME}Pixels")
    px_mm2 = float(pixels.get("PhysicalSizeX")) * float(pixels.get("PhysicalSizeY")) / 1e6
    for info in source.classes:
        area = np.count_nonzero(labels == info.code) * px_mm2
        assert area == pytest.approx(source.class_area_mm2[info.name], rel=1e-9)


def test_a_pixel_leads_to_its_position_in_the_slide(source, written):
    values = annotation(written, "slide")
    y = 300 * float(values["level0_scale_y"]) + float(values["level0_offset_y_px"])
    x = 200 * float(values["level0_scale_x"]) + float(values["level0_offset_x_px"])
    assert (y, x) == (3600, 4401)


def test_classes_and_colors_stand_in_annotations(written):
    assert annotation(written, "classes") == {
        "0": "not analysed",
        "1": "tumor",
        "2": "stroma",
        "21": "other",
    }
    assert annotation(written, "colors") == {"1": "#c80000", "2": "#00a000", "21": "#a0a0a0"}


def annotation(path: Path, name: str) -> dict[str, str]:
    """Keys and values of an annotation that the image refers to."""
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
    refs = [ref.get("ID") for ref in root.findall(f"{OME}Image/{OME}AnnotationRef")]
    assert f"Annotation:{name}" in refs
    (found,) = root.findall(f".//{OME}MapAnnotation[@ID='Annotation:{name}']")
    return {m.get("K"): m.text for m in found.iter(f"{OME}M")}


def test_ome_types_reads_the_xml(source):
    """Its classes are made from the schema: names, types, ids and required values are checked."""
    parsed = ome_types.from_xml(ome_xml(source), validate=False)
    (image,) = parsed.images
    assert image.pixels.physical_size_x == 0.52
    assert {a.id for a in parsed.structured_annotations} == {r.id for r in image.annotation_refs}
    broken = ome_xml(source).replace(b'Type="uint8"', b'Type="uint9"')
    with pytest.raises((ValueError, Warning), match="uint9"):  # warnings are errors here
        ome_types.from_xml(broken, validate=False)


def test_the_xml_is_valid_by_the_schema(source):
    """The schema stands in ome-types; nothing is downloaded."""
    pytest.importorskip("lxml", reason="lxml checks XML against the schema of OME")
    ome_types.validate_xml(ome_xml(source))


def test_the_same_mask_makes_the_same_bytes(source, written, tmp_path):
    write_ome_tiff(source, tmp_path / "again.ome.tiff")
    assert (tmp_path / "again.ome.tiff").read_bytes() == written.read_bytes()


def test_names_are_escaped(source):
    hostile = replace(source, slide_id='<&"\x1b]\x00ü')
    root = ElementTree.fromstring(ome_xml(hostile))
    assert root.find(f"{OME}Image").get("Name") == '<&"\\x1b]\\x00ü'


def test_memory_is_bounded(tmp_path):
    labels = np.ones((4000, 3000), np.uint8)
    source = stored_labels(tmp_path / "s", labels, block_px=2048)
    del labels
    tracemalloc.start()
    write_ome_tiff(source, tmp_path / "s.ome.tiff")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 9e6  # the label map has 12 MB
