import numpy as np
import pytest
from tiny_slides import ArraySource, picture, pyramid

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.slides.open import read_with
from noctile.workflows.viewer.images import FileImage, OverviewImage

HEIGHT, WIDTH, FACTOR = 1700, 2110, 16
CLASSES = (ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return picture(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def store(pixels, tmp_path_factory) -> MaskStore:
    """Masks of a slide of 0.5 um, with an overview of 8 um."""
    frame = Frame(Extent(HEIGHT, WIDTH), 0.5, 0.5)
    even = np.pad(pixels, ((0, -HEIGHT % FACTOR), (0, -WIDTH % FACTOR), (0, 0)), mode="edge")
    extent = frame.coarser(FACTOR).extent
    overview = even.reshape(extent.height, FACTOR, extent.width, FACTOR, 3).mean(axis=(1, 3))
    slide = {"mpp": [0.5, 0.5], "bounds_px": [0, 0, HEIGHT, WIDTH]}
    path = tmp_path_factory.mktemp("store") / "mask.ome.zarr"
    return MaskStore.create(
        path,
        MaskLayout(frame, 512, 512, CLASSES),
        overview.astype(np.uint8),
        frame.coarser(FACTOR),
        {"slide": slide},
    )


def file_image(store, tmp_path, levels, **options) -> tuple[FileImage, ArraySource]:
    source = ArraySource(levels)
    (tmp_path / "a.png").write_bytes(b"x")
    reader = read_with(source, tmp_path / "a.png", "a", **options)
    return FileImage(reader, store), source


def put_together(image, d: int) -> np.ndarray:
    """All tiles of a level, side by side."""
    extent = image.layer.level(d).extent
    rows = [
        np.hstack([image.tile(d, row, col) for col in range(-(-extent.width // 512))])
        for row in range(-(-extent.height // 512))
    ]
    whole = np.vstack(rows)
    assert whole.shape == (extent.height, extent.width, 3)
    return whole


def test_the_finest_tiles_are_the_slide(store, pixels, tmp_path):
    image, _ = file_image(store, tmp_path, pyramid(pixels, 4))
    assert np.array_equal(put_together(image, 0), pixels)


def test_each_level_is_the_slide_in_coarser_pixels(store, pixels, tmp_path):
    image, _ = file_image(store, tmp_path, pyramid(pixels, 4))
    means = [float(put_together(image, d).mean()) for d in range(image.layer.levels)]
    assert image.layer.levels == 4
    assert means == pytest.approx([float(pixels.mean())] * 4, abs=1)


def test_pixels_that_are_not_square_are_shown_as_squares(store, pixels, tmp_path):
    image, _ = file_image(store, tmp_path, [pixels], mpp=(0.5, 0.25))
    assert image.layer.frame.mpp_y == image.layer.frame.mpp_x
    put_together(image, 1)


def test_coarse_tiles_read_the_overview_and_not_a_file_of_one_level(store, tmp_path):
    """The levels 0 to 3 come from the file: a tile reads at most 8 x 8 of its pixels for one."""
    image, source = file_image(store, tmp_path, [picture(300, 8300)], mpp=0.125)
    from_file = []
    for d in range(image.layer.levels):
        source.largest_px = 0
        image.tile(d, 0, 0)
        from_file.append(source.largest_px > 0)
    assert from_file == [True, True, True, True, False, False]


def test_the_overview_is_taken_as_soon_as_it_is_fine_enough(store, tmp_path):
    image, source = file_image(store, tmp_path, [picture(300, 8300)], mpp=1.0)
    source.largest_px = 0
    image.tile(3, 0, 0)  # 8 um, as the overview
    assert source.largest_px == 0
    image.tile(2, 0, 0)
    assert source.largest_px > 0


def test_a_level_of_the_file_comes_before_the_overview(store, tmp_path):
    levels = pyramid(picture(304, 8304), 4, 16)
    image, source = file_image(store, tmp_path, levels, mpp=1.0)
    source.levels_read.clear()
    image.tile(4, 0, 0)
    assert source.levels_read == {2}


def test_the_overview_is_its_own_layer(store):
    image = OverviewImage(store)
    assert image.layer.frame == store.thumbnail_frame
    assert np.array_equal(put_together(image, 0), store.read_thumbnail())


def test_tiles_of_the_overview_join_without_seams(store):
    """At 0.7 um, which is finer than the overview and no whole part of it."""
    frame, overview = Frame(Extent(1210, 1500), 0.7, 0.7), OverviewImage(store)
    whole = overview.read(frame.box, frame)
    for box in (Box(0, 0, 512, 512), Box(512, 1024, 512, 476), Box(1024, 512, 186, 512)):
        assert np.array_equal(overview.read(box, frame), whole[box.slices()])


def test_coarser_levels_of_the_overview_are_averages(store):
    frame, overview = store.thumbnail_frame.coarser(2), OverviewImage(store)
    assert np.array_equal(overview.read(frame.box, frame), store.read_thumbnail(1))


def test_beyond_the_overview_is_white(store):
    frame = Frame(Extent(300, 300), 16.5, 16.5)
    assert (OverviewImage(store).read(Box(250, 250, 10, 10), frame) == 255).all()
