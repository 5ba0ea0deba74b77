"""Contract of slide readers, on real slides and on small ones with known pixels."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tifffile import TiffFile
from tiny_slides import picture, pyramid, write_tiff

from noctile.pipeline.errors import (
    MppImplausibleError,
    MppMissingError,
    SlideOpenError,
    SlideReadError,
)
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides import openslide as openslide_module
from noctile.pipeline.slides import pyramid as pyramid_module
from noctile.pipeline.slides.image import ImageSource
from noctile.pipeline.slides.open import open_slide, read_with
from noctile.pipeline.slides.openslide import OpenSlideSource
from noctile.pipeline.slides.pyramid import PyramidReader
from noctile.pipeline.slides.tiff.reader import TiledTiffSource
from noctile.pipeline.slides.tiffslide import TiffSlideSource
from noctile.testing.slide_reader import SlideReaderContract, boxes, law, margins

HEIGHT, WIDTH, MPP_Y, MPP_X = 211, 301, 0.25, 0.26
MPPS = [0.1, 0.25, 0.26, 0.33, 0.5, 0.51, 0.77, 1.0, 1.53, 2.0, 5.0]


@pytest.fixture(scope="module")
def jpeg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slide of three levels without their last pixels; pixels are 4 % wider than high."""
    path = tmp_path_factory.mktemp("tiny") / "jpeg.tif"
    return write_tiff(path, pyramid(picture(HEIGHT, WIDTH), 2, 4), MPP_Y, MPP_X)


@pytest.fixture(scope="module")
def square_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slide of one level of square pixels without compression."""
    return write_tiff(
        tmp_path_factory.mktemp("tiny") / "square.tif", [picture(HEIGHT, WIDTH)], 0.25, 0.25, None
    )


def forget_tile(path: Path, number: int) -> None:
    """Change a TIFF file so that a tile of its first image was never written."""
    with TiffFile(path, mode="r+") as tiff:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[0].tags[name]
            tag.overwrite([0 if k == number else value for k, value in enumerate(tag.value)])


class ReaderTests(SlideReaderContract):
    """Contract of a reader library; each library has a subclass."""

    source: type[OpenSlideSource | TiffSlideSource | TiledTiffSource | ImageSource]
    suffix = ".tif"
    pixels = picture(HEIGHT, WIDTH)

    def open(self, path: Path, mpp: float | tuple[float, float] | None = None) -> PyramidReader:
        return read_with(self.source(path, path.stem), path, path.stem, mpp)

    def write(self, path: Path, pixels: np.ndarray) -> Path:
        """Write one level of square pixels of 0.25 um, without compression."""
        return write_tiff(path, [pixels], 0.25, 0.25, None)

    @pytest.fixture
    def reader(self, jpeg_file: Path) -> Iterator[PyramidReader]:
        with closing(self.open(jpeg_file)) as reader:
            yield reader

    @pytest.fixture
    def exact(self, square_file: Path) -> Iterator[PyramidReader]:
        with closing(self.open(square_file)) as reader:
            yield reader

    @pytest.mark.parametrize("mpp", MPPS)
    def test_the_size_of_fetched_parts_changes_no_pixel(self, reader, mpp, monkeypatch) -> None:
        box = reader.info.frame.at(mpp).box.grow(3)
        whole = reader.read(box, mpp)
        monkeypatch.setattr(pyramid_module, "_PART_PX", 50)
        assert np.array_equal(reader.read(box, mpp), whole)

    def test_transparent_pixels_are_white(self, tmp_path: Path) -> None:
        pixels = np.dstack([picture(128, 128), np.full((128, 128), 255, np.uint8)])
        pixels[:64, :64, 3] = 0
        with closing(self.open(self.write(tmp_path / f"alpha{self.suffix}", pixels))) as reader:
            read = reader.read(reader.info.frame.box, 0.25)
        assert (read[:64, :64] == 255).all()
        assert np.array_equal(read[64:], pixels[64:, :, :3])

    def test_reading_a_closed_slide_is_an_error(self, tmp_path: Path) -> None:
        reader = self.open(self.write(tmp_path / f"closed{self.suffix}", picture(64, 64)))
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            reader.read(Box(0, 0, 1, 1), 0.25)


class TiffReaderContract(ReaderTests):
    """Contract of the readers of tiled TIFF."""

    def test_levels_without_the_last_pixels_have_whole_factors(self, reader: PyramidReader) -> None:
        levels = reader.info.levels
        assert [(f.extent.height, f.extent.width) for f in levels] == [
            (211, 301),
            (105, 150),
            (52, 75),
        ]
        assert [(f.mpp_y / levels[0].mpp_y, f.mpp_x / levels[0].mpp_x) for f in levels] == [
            (1, 1),
            (2, 2),
            (4, 4),
        ]

    def test_pixels_may_be_wider_than_high(self, reader: PyramidReader) -> None:
        frame = reader.info.frame
        # TIFF holds a resolution as a fraction, which older releases of tifffile round
        assert (frame.mpp_y, frame.mpp_x) == pytest.approx((MPP_Y, MPP_X), rel=1e-5)
        assert reader.info.mpp_source == "tiff tags"
        square = frame.at(1.5)
        assert (square.extent.height, square.extent.width) == (36, 53)
        assert square.mpp_y == square.mpp_x == 1.5

    def test_one_damaged_tile_does_not_spoil_the_others(self, tmp_path: Path) -> None:
        path = write_tiff(tmp_path / "damaged.tif", [picture(128, 128)], 0.25, 0.25)
        with closing(self.open(path)) as reader:
            before = reader.read(Box(64, 0, 64, 128), 0.25)
        with TiffFile(path) as tiff:
            offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(bytes(count))
        with closing(self.open(path)) as reader:
            with pytest.raises(SlideReadError, match="damaged: level 0"):
                reader.read(Box(0, 0, 64, 64), 0.25)
            assert np.array_equal(reader.read(Box(64, 0, 64, 128), 0.25), before)

    @pytest.mark.parametrize("compression", [None, "zlib", "lzw", "jpeg", "jpeg2000", "webp"])
    @pytest.mark.parametrize("grey", [False, True])
    def test_a_missing_tile_is_white(
        self, compression: str | None, grey: bool, tmp_path: Path
    ) -> None:
        if self.source is OpenSlideSource and compression in {"jpeg2000", "webp"}:
            pytest.skip("OpenSlide does not open such files")
        if grey and compression in {"jpeg2000", "webp"}:
            pytest.skip("no such slides")
        pixels = picture(128, 128)[..., 0] if grey else picture(128, 128)
        path = write_tiff(tmp_path / "sparse.tif", [pixels], 0.25, 0.25, compression)
        with closing(self.open(path)) as reader:
            before = reader.read(reader.info.frame.box, 0.25)
        forget_tile(path, 0)
        with closing(self.open(path)) as reader:
            read = reader.read(reader.info.frame.box, 0.25)
        assert (read[:64, :64] == 255).all()
        assert np.array_equal(read[64:], before[64:])

    def test_an_aperio_slide_is_described_and_read(self, shared_data: Path) -> None:
        with closing(self.open(shared_data / "slides" / "CMU-1-Small-Region.svs")) as reader:
            info, pixels = reader.info, reader.read(reader.info.frame.at(8).box, 8)
        assert (info.frame.extent.height, info.frame.extent.width) == (2967, 2220)
        assert (info.frame.mpp_y, info.frame.mpp_x, info.mpp_source) == (0.499, 0.499, "metadata")
        assert (info.vendor, info.compression, info.objective_power) == ("aperio", "jpeg", 20)
        assert info.levels == (info.frame,)
        assert info.bounds == info.frame.box
        assert pixels.shape == (186, 139, 3)
        assert 200 < pixels.mean() < 240  # H&E on white, not a black or empty picture
        assert pixels.std() > 20

    def test_a_wrong_pixel_size_is_refused_and_can_be_overridden(self, shared_data: Path) -> None:
        path = shared_data / "slides" / "CMU-1-Small-Region.wrong-mpp.tiff"
        with pytest.raises(
            MppImplausibleError, match=r"0\.00499 um according to the TIFF tags .* --mpp 0\.25"
        ):
            self.open(path)
        original = self.open(shared_data / "slides" / "CMU-1-Small-Region.svs")
        box = Box(500, 700, 300, 300)
        with closing(self.open(path, 0.499)) as reader, closing(original):
            difference = np.abs(reader.read(box, 0.499).astype(int) - original.read(box, 0.499))
        assert (reader.info.frame.mpp, reader.info.mpp_source) == (pytest.approx(0.499), "user")
        assert difference.mean() < 6  # the converter compressed it again

    def test_a_fluorescence_slide_stays_dark(self, shared_data: Path) -> None:
        with closing(self.open(shared_data / "slides" / "fluorescence.ndpi")) as reader:
            info, pixels = reader.info, reader.read(reader.info.frame.at(8).box, 8)
        assert info.frame.mpp == pytest.approx(0.22818, abs=1e-5)
        assert [level.mpp / info.frame.mpp for level in info.levels[:4]] == pytest.approx(
            [1, 2, 4, 8]
        )
        assert pixels.mean() < 40  # dark, so no pixel was treated as transparent

    def test_undecodable_pixels_are_an_error_at_each_read(self, shared_data: Path) -> None:
        message = r"unreadable: level 0, rows 0 to 16.*Bogus marker length"
        with closing(self.open(shared_data / "slides" / "unreadable.svs")) as reader:
            for _ in range(2):
                with pytest.raises(SlideReadError, match=message):
                    reader.read(Box(0, 0, 8, 8), 0.499 * 2)


class TestOpenSlide(TiffReaderContract):
    source = OpenSlideSource

    @law
    @given(boxes, margins, st.sampled_from([0.5, 0.77, 1.0, 1.53]))
    def test_levels_with_a_fractional_downsample_read_the_same_in_any_box(
        self, cells, box, margin, mpp
    ) -> None:
        large = box.grow(margin)
        assert np.array_equal(cells.read(box, mpp), cells.read(large, mpp)[box.slices(large)])

    @pytest.fixture
    def cells(self, reader: PyramidReader, monkeypatch: pytest.MonkeyPatch) -> PyramidReader:
        """Reader whose levels have several cells."""
        monkeypatch.setattr(openslide_module, "_CELL_PX", 32)
        return reader

    def test_a_dicom_overview_is_too_coarse(self, shared_data: Path) -> None:
        with pytest.raises(
            MppImplausibleError, match=r"28\.97 um according to the file's metadata"
        ):
            self.open(shared_data / "slides" / "camelyon-overview.dcm")

    def test_a_dicom_file_is_read_with_the_pixel_size_of_the_call(self, shared_data: Path) -> None:
        with closing(self.open(shared_data / "slides" / "camelyon-overview.dcm", 1.0)) as reader:
            pixels = reader.read(reader.info.frame.box, 1.0)
        assert (reader.info.vendor, reader.info.compression) == ("dicom", "jpeg")
        assert pixels.shape == (700, 1152, 3)
        assert pixels.std() > 20

    def test_an_unknown_codec_is_unopenable(self, shared_data: Path) -> None:
        with pytest.raises(
            SlideOpenError, match=r"unopenable.*Unsupported TIFF compression: 52479"
        ):
            self.open(shared_data / "slides" / "unopenable.tiff")


class TestTiffSlide(TiffReaderContract):
    source = TiffSlideSource

    def test_an_ome_tiff_without_a_pixel_size_needs_one(self, shared_data: Path) -> None:
        path = shared_data / "slides" / "bfconvert-jpeg.ome.tiff"
        with pytest.raises(MppMissingError, match=r"XResolution 0/1000.*--mpp 0\.25"):
            self.open(path)
        with closing(self.open(path, 0.5)) as reader:
            pixels = reader.read(reader.info.frame.box, 0.5)
        assert pixels.shape == (512, 512, 3)
        assert pixels.std() > 20

    def test_a_dicom_file_is_unopenable(self, shared_data: Path) -> None:
        with pytest.raises(SlideOpenError, match="not a TIFF file"):
            self.open(shared_data / "slides" / "camelyon-overview.dcm")

    def test_16_bit_pixels_are_unopenable(self, tmp_path: Path) -> None:
        path = write_tiff(
            tmp_path / "deep.tif", [picture(64, 64).astype(np.uint16)], 0.25, 0.25, None
        )
        with pytest.raises(SlideOpenError, match="3 x uint16"):
            self.open(path)


class TestTiled(TiffReaderContract):
    """Reader of tiles; OpenSlide reads the real slides that the rule leaves to it."""

    source = TiledTiffSource

    def open(self, path: Path, mpp: float | tuple[float, float] | None = None) -> PyramidReader:
        return open_slide(path, mpp=mpp)

    def test_the_tiny_slides_are_read_tile_by_tile(
        self, reader: PyramidReader, exact: PyramidReader, tmp_path: Path
    ) -> None:
        alpha = self.write(tmp_path / "alpha.tif", np.zeros((64, 64, 4), np.uint8))
        with closing(self.open(alpha)) as third:
            assert {reader.info.reader, exact.info.reader, third.info.reader} == {"tiled-tiff"}


class TestImage(ReaderTests):
    """Image of one level, whose pixel size comes from the call."""

    source = ImageSource
    suffix = ".png"

    def open(self, path: Path, mpp: float | tuple[float, float] | None = None) -> PyramidReader:
        return super().open(path, mpp or ((MPP_Y, MPP_X) if path.suffix == ".jpg" else 0.25))

    def write(self, path: Path, pixels: np.ndarray) -> Path:
        Image.fromarray(pixels).save(path)
        return path

    @pytest.fixture(scope="class")
    @classmethod
    def jpeg_file(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return cls().write(tmp_path_factory.mktemp("tiny") / "photo.jpg", picture(HEIGHT, WIDTH))

    @pytest.fixture(scope="class")
    @classmethod
    def square_file(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return cls().write(tmp_path_factory.mktemp("tiny") / "square.png", picture(HEIGHT, WIDTH))


@pytest.mark.parametrize("mpp", [0.499, 0.75, 0.998, 8.0])
def test_openslide_and_tiffslide_read_the_same_slide(shared_data: Path, mpp: float) -> None:
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    one, other = (
        read_with(s(path, "cmu"), path, "cmu") for s in (OpenSlideSource, TiffSlideSource)
    )
    box = Box(0, 0, 400, 400)
    with closing(one), closing(other):
        difference = np.abs(one.read(box, mpp).astype(int) - other.read(box, mpp))
    assert difference.max() <= 2  # two JPEG decoders round differently
    assert one.info.levels == other.info.levels
    assert one.info.fingerprint == other.info.fingerprint


@pytest.mark.parametrize(
    ("name", "mpp", "reader"),
    [
        ("CMU-1-Small-Region.svs", None, "tiled-tiff"),
        ("CMU-1-Small-Region.wrong-mpp.tiff", 0.499, "tiled-tiff"),
        ("fluorescence.ndpi", None, "openslide"),
        ("camelyon-overview.dcm", 1.0, "openslide"),
        ("bfconvert-jpeg.ome.tiff", 0.5, "tiled-tiff"),
        ("unreadable.svs", None, "openslide"),
        ("../bcss/images/1008.jpg", 0.25, "pillow"),
    ],
)
def test_each_real_slide_has_its_reader(
    shared_data: Path, name: str, mpp: float | None, reader: str
) -> None:
    slide = open_slide(shared_data / "slides" / name, mpp=mpp)
    slide.close()
    assert slide.info.reader == reader
    assert slide.info.slide_id == Path(name).stem
