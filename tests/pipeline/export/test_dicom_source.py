from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standins import stored_labels

from noctile.pipeline.errors import StoreError
from noctile.pipeline.export.dicom_source import derived_uid, label_origin, position, source_header


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Mask of a 40x slide with bounds, whose pixels are not square."""
    return stored_labels(
        tmp_path_factory.mktemp("source") / "s",
        np.ones((600, 700), np.uint8),
        mpp=(0.5, 0.52),
        slide_mpp=(0.25, 0.26),
        bounds_yx=(3000, 4001),
    )


def of_dicom(source, path: Path):
    return replace(source, slide_path=path, summary={**source.summary, "vendor": "dicom"})


def test_a_made_header_has_size_spacing_and_place_of_the_scanned_region(source):
    header = source_header(source)
    assert (header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns) == (1200, 1400)
    spacing = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert [float(mm) for mm in spacing] == [0.00025, 0.00026]
    x, y, z = position(header, 0, 0)
    assert (x, y, z) == pytest.approx((4001.5 * 0.26e-3, 3000.5 * 0.25e-3, 0), abs=1e-12)


def test_levels_share_their_corner_and_not_their_centres(source):
    header = source_header(source)
    for frame in source.frames:
        x, y, _ = label_origin(header, source, frame)
        assert x == pytest.approx(4001 * 0.26e-3 + frame.mpp_x / 2e3, abs=1e-12)
        assert y == pytest.approx(3000 * 0.25e-3 + frame.mpp_y / 2e3, abs=1e-12)


def test_uids_follow_from_the_content(source):
    uids = {source_header(source).SOPInstanceUID for _ in range(2)}
    assert len(uids) == 1
    other = replace(source, summary={**source.summary, "fingerprint": "another"})
    assert source_header(other).SOPInstanceUID not in uids
    assert derived_uid("a", "b") == derived_uid("a", "b")
    assert derived_uid("a", "b").startswith("2.25.")
    assert len(derived_uid("a")) <= 64


def test_a_dicom_slide_gives_its_own_identity_and_orientation(source, shared_data):
    slide = shared_data / "slides" / "camelyon-overview.dcm"
    header = source_header(of_dicom(source, slide))
    assert header.SOPInstanceUID == "1.2.276.0.7230010.3.1.4.296485376.89.1688794081.412405"
    assert list(header.ImageOrientationSlide) == [0, -1, 0, -1, 0, 0]
    assert header.LossyImageCompression == "01"
    # one step along a row goes against y, one along a column against x
    start = np.array(position(header, 0, 0))
    np.testing.assert_allclose(np.array(position(header, 1, 0)) - start, (0, -1, 0), atol=1e-9)
    np.testing.assert_allclose(np.array(position(header, 0, 1)) - start, (-1, 0, 0), atol=1e-9)


def test_a_dicom_slide_that_has_gone_is_an_error_and_no_made_header(source, tmp_path):
    with pytest.raises(StoreError, match="put it back"):
        source_header(of_dicom(source, tmp_path / "gone.dcm"))
    (tmp_path / "text.dcm").write_text("text")
    with pytest.raises(StoreError, match="DICOM"):
        source_header(of_dicom(source, tmp_path / "text.dcm"))
