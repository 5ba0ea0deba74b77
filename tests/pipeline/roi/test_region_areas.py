"""Areas inside regions, compared with a count over the whole label map at once."""

import json

import numpy as np
import pytest
from roi_files import box, drawn, feature
from standins import stored_labels

from noctile.pipeline.geometry import Extent, Frame
from noctile.pipeline.roi import cut
from noctile.pipeline.roi.region_areas import region_areas
from noctile.pipeline.roi.regions import read_roi

FEATURES = (
    feature([(30, 40), (500, 90), (420, 560), (55, 333)], box(200, 200, 70, 90), name="A"),
    feature(box(300, 300, 400, 200), label="Tumor"),
    feature(box(4, 6, 30, 20), name="no tissue"),
    feature(box(350, 0, 25, 600), label="Ignore*"),
)


@pytest.fixture(scope="module", params=[((0.5, 0.5), (0.25, 0.25)), ((0.5, 0.6), (0.25, 0.2))])
def made(request, tmp_path_factory):
    """Label map of several blocks, one without labels, of a slide at 40x with bounds."""
    mpp, slide_mpp = request.param
    labels = np.random.default_rng(3).choice(np.array([1, 2, 21], np.uint8), (300, 400))
    labels[:, 350:] = labels[:128, :128] = 0
    source = stored_labels(
        tmp_path_factory.mktemp("m") / "a",
        labels,
        mpp=mpp,
        slide_mpp=slide_mpp,
        bounds_yx=(700, 900),
        block_px=128,
    )
    size = Extent(*(round(n * a / b) for n, a, b in zip(labels.shape, mpp, slide_mpp, strict=True)))
    roi = read_roi(json.dumps(FEATURES).encode(), "a", Frame(size, *slide_mpp))
    return labels, source.store, roi


@pytest.mark.parametrize("strip_px", [1024, 7])
def test_areas_are_those_of_a_count_over_the_whole(made, monkeypatch, strip_px):
    labels, store, roi = made
    monkeypatch.setattr(cut, "_STRIP_PX", strip_px)
    union_mm2, areas = region_areas(store, roi)
    frame, mpp = store.layout.frame, (roi.native.mpp_y, roi.native.mpp_x)
    keep = ~drawn(FEATURES[3:], frame, mpp)
    inside = [drawn([one], frame, mpp) & keep for one in FEATURES[:3]]
    mm2 = frame.pixel_area_mm2
    assert union_mm2 == pytest.approx(np.any(inside, axis=0).sum() * mm2, abs=6e-7)
    assert [(one.region, one.region_class) for one in areas] == [
        ("A", None),
        ("Tumor", "Tumor"),
        ("no tissue", None),
    ]
    for found, pixels in zip(areas, inside, strict=True):
        counts = np.bincount(labels[pixels], minlength=22) * mm2
        assert found.region_area_mm2 == pytest.approx(pixels.sum() * mm2, abs=6e-7)
        assert found.tissue_area_mm2 == pytest.approx(counts[1:].sum(), abs=6e-7)
        assert found.tumor_area_mm2 == pytest.approx(counts[1], abs=6e-7)
        assert list(found.class_area_mm2.values()) == pytest.approx(counts[[1, 2, 21]], abs=6e-7)
    assert areas[2].tumor_fraction_of_tissue is None
    share = areas[0].tumor_area_mm2 / areas[0].tissue_area_mm2
    assert areas[0].tumor_fraction_of_tissue == pytest.approx(share, abs=2e-4)
