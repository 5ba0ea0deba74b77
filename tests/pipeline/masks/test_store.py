import json
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo

CLASSES = (
    ClassInfo(code=1, name="tumor", color=(220, 30, 30), role="tumor"),
    ClassInfo(code=7, name="stroma", color=(30, 30, 220), role="tissue"),
)
PROVENANCE = {
    "slide": {"slide_id": "s", "mpp": [0.25, 0.25], "bounds_px": [16, 32, 2800, 4400]},
    "model": {"name": "m"},
}
FRAME = Frame(Extent(1400, 2200), 0.5, 0.5)
LAYOUT = MaskLayout(FRAME, block_px=512, chunk_px=128, classes=CLASSES)
THUMBNAIL_FRAME = FRAME.coarser(16)


def make(
    folder: Path, layout: MaskLayout = LAYOUT, thumbnail: np.ndarray | None = None
) -> MaskStore:
    frame = layout.frame.coarser(16)
    if thumbnail is None:
        thumbnail = np.random.default_rng(0).integers(
            0, 256, (frame.extent.height, frame.extent.width, 3), np.uint8
        )
    folder.mkdir(exist_ok=True)
    return MaskStore.create(folder / "mask.ome.zarr", layout, thumbnail, frame, PROVENANCE)


def block(layout: MaskLayout, row: int, col: int) -> tuple[Box, np.ndarray, np.ndarray, np.ndarray]:
    """Content of a block, which follows from its position alone."""
    box, rng = layout.shard_box(row, col), np.random.default_rng([row, col])
    cells = layout.heat_box(box).extent
    heat, confidence = rng.integers(0, 256, (2, cells.height, cells.width), np.uint8)
    return box, rng.choice(np.array([0, 1, 7], np.uint8), (box.height, box.width)), heat, confidence


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def shards(array: Path) -> list[str]:
    return sorted(
        p.relative_to(array / "c").as_posix() for p in (array / "c").rglob("*") if p.is_file()
    )


@pytest.fixture
def store(tmp_path: Path) -> MaskStore:
    """A finished store of 3 x 5 blocks, of which four were written."""
    made = make(tmp_path / "s")
    for key in ((0, 0), (0, 4), (1, 2), (2, 4)):
        made.write(*block(LAYOUT, *key))
    build_pyramid(made)
    return made


class TestMetadata:
    def test_mask_label_image_and_heat_are_valid_ngff_05(self, store):
        mask = zarr.open_group(store.path, mode="r")
        assert isinstance(open_ome_zarr(mask), Image)
        assert Labels.from_zarr(mask["labels"]).attributes.ome.labels == ["classes"]
        assert isinstance(open_ome_zarr(mask["labels/classes"]), ImageLabel)
        assert isinstance(open_ome_zarr(zarr.open_group(store.heat_path, mode="r")), Image)

    def test_the_label_image_has_as_many_levels_as_its_parent(self, store):
        mask = zarr.open_group(store.path, mode="r")
        of_labels = (
            ImageLabel.from_zarr(mask["labels/classes"]).attributes.ome.multiscales[0].datasets
        )
        assert (
            len(of_labels)
            == len(Image.from_zarr(mask).attributes.ome.multiscales[0].datasets)
            == LAYOUT.levels
            == 4
        )

    def test_every_array_names_its_dimensions_and_is_uint8(self, store):
        for root, name, dims in (
            (store.path, "0", "cyx"),
            (store.path, "labels/classes/0", "yx"),
            (store.heat_path, "0", "cyx"),
        ):
            about = json.loads((root / name / "zarr.json").read_text())
            assert about["dimension_names"] == list(dims)
            assert about["data_type"] == "uint8"
            assert about["fill_value"] == 0

    def test_the_mask_names_its_slide_and_its_model(self, store):
        about = zarr.open_group(store.path, mode="r")["labels/classes"].attrs["noctile"]
        assert about["slide"] == PROVENANCE["slide"]
        assert about["model"] == {"name": "m"}
        assert about["level0_affine"] == [[2.0, 0.0, 16.0], [0.0, 2.0, 32.0]]

    def test_a_store_that_is_opened_equals_the_one_that_was_created(self, store):
        again = MaskStore.open(store.path)
        assert again.layout == LAYOUT
        assert again.thumbnail_frame == THUMBNAIL_FRAME


class TestThumbnail:
    def test_a_box_of_a_level_is_read(self, tmp_path):
        store = make(tmp_path)
        for level in (0, 1):
            box = Box(3, 5, 20, 30)
            whole = store.read_thumbnail(level)
            assert np.array_equal(store.read_thumbnail(level, box), whole[box.slices()])


class TestAlignment:
    def test_a_square_lies_at_the_same_micrometres_in_every_array_of_both_folders(self, tmp_path):
        """Block (1, 2): rows 512..1023, columns 1024..1535; the middle of its pixels is index
        (767.5, 1279.5)."""
        thumbnail = np.full((88, 138, 3), 255, np.uint8)
        thumbnail[32:64, 64:96] = 0
        store = make(tmp_path, thumbnail=thumbnail)
        ones, full = np.ones((512, 512), np.uint8), np.full((64, 64), 255, np.uint8)
        store.write(LAYOUT.shard_box(1, 2), ones, full, full)
        build_pyramid(store)
        seen = []
        for root, name, dark in (
            (store.path, "", True),
            (store.path, "labels/classes", False),
            (store.heat_path, "", False),
        ):
            group = zarr.open_group(root, path=name, mode="r")
            for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]:
                pixels = group[dataset["path"]][...]
                plane = pixels[0] if pixels.ndim == 3 else pixels
                weights = 255 - plane.astype(float) if dark else plane.astype(float)
                indices = np.indices(plane.shape)
                centre = (indices * weights).sum(axis=(1, 2)) / weights.sum()
                scale, translation = dataset["coordinateTransformations"]
                seen.append(centre * scale["scale"][-2:] + translation["translation"][-2:])
        assert len(seen) == 4 + 4 + 1
        np.testing.assert_allclose(
            seen, np.broadcast_to([767.5 * 0.5, 1279.5 * 0.5], (9, 2)), atol=1e-9
        )


class TestPixels:
    def test_written_blocks_are_read_back_and_the_rest_is_not_analysed(self, store):
        for row in range(3):
            for col in range(5):
                box, labels, heat, confidence = block(LAYOUT, row, col)
                written = (row, col) in {(0, 0), (0, 4), (1, 2), (2, 4)}
                assert (store.read(box) == labels * written).all()
                assert (
                    np.stack(store.read_heat_maps(box)) == np.stack((heat, confidence)) * written
                ).all()

    def test_a_box_across_blocks_is_read_like_one_array(self, store):
        whole = store.read_level(0)
        box = Box(300, 200, 1100, 2000)
        assert (store.read(box) == whole[box.slices()]).all()
        assert whole.shape == (1400, 2200)

    def test_the_ome_zarr_reader_finds_the_same_pixels_and_the_labels_node(self, store):
        nodes = {n.zarr.basename(): n for n in Reader(parse_url(store.path))()}
        assert set(nodes) == {"mask.ome.zarr", "labels", "classes"}
        for level, pixels in enumerate(nodes["classes"].data):
            assert (np.asarray(pixels) == store.read_level(level)).all()
        assert (
            np.moveaxis(np.asarray(nodes["mask.ome.zarr"].data[0]), 0, -1) == store.read_thumbnail()
        ).all()
        (heat,) = Reader(parse_url(store.heat_path))()
        assert (np.asarray(heat.data[0]) == np.stack(store.read_heat_maps(FRAME.box))).all()
        assert heat.metadata["channel_names"] == ["tumor_probability", "confidence"]

    def test_only_blocks_with_labels_have_a_shard(self, store):
        assert shards(store.path / "labels/classes/0") == ["0/0", "0/4", "1/2", "2/4"]
        assert store.stored_shards() == [(0, 0), (0, 4), (1, 2), (2, 4)]
        box, _, heat, _ = block(LAYOUT, 1, 1)
        store.write(box, np.zeros((512, 512), np.uint8), heat * 0, heat * 0)
        assert store.stored_shards() == [(0, 0), (0, 4), (1, 2), (2, 4)]

    @pytest.mark.parametrize("box", [Box(0, 0, 1401, 10), Box(-1, 0, 10, 10)])
    def test_reading_outside_the_label_map_is_refused(self, store, box):
        with pytest.raises(ValueError, match="reaches outside"):
            store.read(box)
        with pytest.raises(ValueError, match="reaches outside"):
            store.read_heat_maps(box)

    def test_a_box_that_cuts_through_heat_map_pixels_is_refused(self, store):
        with pytest.raises(ValueError, match="cuts through"):
            store.read_heat_maps(Box(4, 0, 8, 8))


class TestWriting:
    @pytest.mark.parametrize(
        "box",
        [
            Box(0, 0, 256, 512),  # half a block
            Box(0, 0, 1024, 512),  # two
            Box(256, 0, 512, 512),  # between two
            Box(1024, 2048, 512, 512),  # not cut to the frame
            Box(0, 2560, 512, 0),  # beyond it
            Box(-512, 0, 512, 512),
        ],
    )
    def test_a_box_that_is_not_exactly_a_block_is_refused(self, store, box):
        before = tree(store.path)
        labels = np.ones((box.height, box.width), np.uint8)
        maps = np.ones((-(-box.height // 8), -(-box.width // 8)), np.uint8)
        with pytest.raises(ValueError, match="is not a block"):
            store.write(box, labels, maps, maps)
        assert tree(store.path) == before

    def test_arrays_that_do_not_fit_the_block_are_refused(self, store):
        box, labels, heat, confidence = block(LAYOUT, 1, 1)
        with pytest.raises(ValueError, match="labels of"):
            store.write(box, labels[:-1], heat, confidence)
        with pytest.raises(ValueError, match="confidence of"):
            store.write(box, labels, heat, confidence.astype(np.float32))

    def test_a_label_that_is_no_class_is_refused(self, store):
        box, labels, heat, confidence = block(LAYOUT, 1, 1)
        labels[5, 5] = 3
        with pytest.raises(ValueError, match=r"labels \[3\] are no class"):
            store.write(box, labels, heat, confidence)

    def test_order_and_threads_and_repetition_change_no_byte(self, tmp_path):
        keys = [(row, col) for row in range(3) for col in range(5)]
        one, other = make(tmp_path / "one"), make(tmp_path / "other")
        for key in keys:
            one.write(*block(LAYOUT, *key))
        with zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1}):
            for key in [*reversed(keys), keys[3]]:
                MaskStore.open(other.path).write(*block(LAYOUT, *key))
        assert tree(tmp_path / "one") == tree(tmp_path / "other")

    def test_a_block_written_over_other_content_equals_one_written_first(self, tmp_path):
        one, other = make(tmp_path / "one"), make(tmp_path / "other")
        box, labels, heat, confidence = block(LAYOUT, 1, 1)
        other.write(box, labels // 7, heat // 2, confidence // 3)
        for made in (one, other):
            made.write(box, labels, heat, confidence)
        assert tree(tmp_path / "one") == tree(tmp_path / "other")

    def test_two_processes_at_once_write_the_same_bytes_as_one(self, tmp_path, repo):
        serial, parallel = make(tmp_path / "serial"), make(tmp_path / "parallel")
        keys = [(row, col) for row in range(3) for col in range(5)]
        for key in keys:
            serial.write(*block(LAYOUT, *key))
        writers = [start_writer(repo, parallel.path, keys[half::2]) for half in (0, 1)]
        for writer in writers:
            assert writer.communicate(timeout=60)[1] == b""
            assert writer.returncode == 0
        assert tree(tmp_path / "serial") == tree(tmp_path / "parallel")

    def test_a_block_of_3584_px_takes_some_tens_of_megabytes(self, tmp_path):
        layout = MaskLayout(Frame(Extent(80_000, 100_000), 0.5, 0.5), 3584, 512, CLASSES)
        store = make(tmp_path, layout, np.zeros((5000, 6250, 3), np.uint8))
        arrays = block(layout, 5, 6)
        tracemalloc.start()
        store.write(*arrays)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 48 * 2**20


KILL = """
import os, pathlib, signal
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
WRITER = """
import sys
from pathlib import Path
import numpy as np
from noctile.pipeline.masks.store import MaskStore
store = MaskStore.open(Path(sys.argv[1]))
for key in sys.argv[2:]:
    row, col = map(int, key.split(","))
    box, rng = store.layout.shard_box(row, col), np.random.default_rng([row, col])
    cells = store.layout.heat_box(box).extent
    heat, confidence = rng.integers(0, 256, (2, cells.height, cells.width), np.uint8)
    labels = rng.choice(np.array([0, 1, 7], np.uint8), (box.height, box.width))
    store.write(box, labels, heat, confidence)
"""


def start_writer(
    repo: Path, path: Path, keys: list[tuple[int, int]], *, killed: bool = False
) -> subprocess.Popen:
    code = (KILL if killed else "") + WRITER
    words = [sys.executable, "-c", code, str(path), *(f"{row},{col}" for row, col in keys)]
    return subprocess.Popen(words, cwd=repo, stderr=subprocess.PIPE)


class TestKilled:
    """A writer is killed at the worst moment, after its bytes and before the rename."""

    def test_a_killed_writer_leaves_no_shard_and_a_repetition_is_complete(self, tmp_path, repo):
        store, fresh = make(tmp_path / "s"), make(tmp_path / "fresh")
        writer = start_writer(repo, store.path, [(1, 1)], killed=True)
        writer.communicate(timeout=60)
        assert writer.returncode == -signal.SIGKILL
        assert list(store.heat_path.rglob("*.partial"))
        assert store.stored_shards() == []
        assert not np.stack(store.read_heat_maps(FRAME.box)).any()
        for made in (store, fresh):
            made.write(*block(LAYOUT, 1, 1))
            build_pyramid(made)
        assert tree(tmp_path / "s") == tree(tmp_path / "fresh")

    def test_a_killed_repetition_leaves_the_first_shard(self, tmp_path, repo):
        store = make(tmp_path / "s")
        store.write(*block(LAYOUT, 1, 1))
        before = tree(tmp_path / "s")
        writer = start_writer(repo, store.path, [(1, 1)], killed=True)
        writer.communicate(timeout=60)
        assert writer.returncode == -signal.SIGKILL
        store.clean_up()
        assert tree(tmp_path / "s") == before

    def test_a_temporary_file_is_no_shard_and_is_deleted(self, store):
        leftover = store.path / "labels/classes/0/c/0/3.0123456789abcdef.partial"
        leftover.write_bytes(b"half")
        assert (0, 3) not in store.stored_shards()
        build_pyramid(store)
        assert not leftover.exists()


class TestErrors:
    def test_labels_that_are_no_whole_shard_are_refused(self, store):
        whole = LAYOUT.shard_box(0, 0, 1)
        part = Box(whole.y + 8, whole.x, whole.height - 8, whole.width)
        for box, labels in ((part, part), (whole, part)):
            with pytest.raises(ValueError, match="not a shard of level 1"):
                store.write_labels(box, np.ones((labels.height, labels.width), np.uint8), 1)

    def test_an_array_with_another_codec_is_not_written_to(self, store):
        path = store.path / "labels/classes/0/zarr.json"
        path.write_text(path.read_text().replace('"level": 1', '"level": 5'))
        with pytest.raises(StoreError, match="encoded by"):
            MaskStore.open(store.path).write(*block(LAYOUT, 0, 0))

    def test_existing_folders_are_never_replaced(self, tmp_path):
        for name in ("mask.ome.zarr", "heat.ome.zarr"):
            folder = tmp_path / name[:4]
            (folder / name).mkdir(parents=True)
            (folder / name / "notes.txt").write_text("mine")
            with pytest.raises(StoreError, match=f"{name} exists already.*delete it"):
                make(folder)
            assert tree(folder) == {f"{name}/notes.txt": b"mine"}

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path):
        (tmp_path / "file").write_text("no folder")
        frame = THUMBNAIL_FRAME.extent
        thumbnail = np.zeros((frame.height, frame.width, 3), np.uint8)
        with pytest.raises(StoreError, match=r"file/mask\.ome\.zarr cannot be written.*free space"):
            MaskStore.create(
                tmp_path / "file" / "mask.ome.zarr", LAYOUT, thumbnail, THUMBNAIL_FRAME, PROVENANCE
            )

    def test_a_shard_that_cannot_be_written_is_named(self, store):
        (store.path / "labels/classes/0/c/1/1").mkdir()
        with pytest.raises(StoreError, match=r"labels/classes/0 cannot be written"):
            store.write(*block(LAYOUT, 1, 1))

    @pytest.mark.parametrize("damage", ["missing", "unfinished", "foreign"])
    def test_an_incomplete_mask_is_not_opened(self, store, damage):
        about = store.path / "labels/classes/zarr.json"
        if damage == "missing":
            about.unlink()
        elif damage == "unfinished":  # killed before the last write of create
            about.write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        else:
            about.write_text("not JSON")
        with pytest.raises(StoreError, match="delete it to have the slide done again"):
            MaskStore.open(store.path)

    def test_a_damaged_shard_is_named(self, store):
        shard = store.path / "labels/classes/0/c/0/0"
        good = shard.read_bytes()
        for bad in (good[: len(good) // 2], good[:-1], b"\0" * 64 + good[64:]):
            shard.write_bytes(bad)
            with pytest.raises(StoreError, match=r"labels/classes/0 cannot be read.*delete"):
                store.read(LAYOUT.shard_box(0, 0))

    @pytest.mark.parametrize(
        "name", ["mask.ome.zarr/labels/classes/0/c/0/4", "heat.ome.zarr/0/c/0/0/4"]
    )
    def test_a_shard_without_bytes_is_an_error(self, store, name):
        (store.path.parent / name).write_bytes(b"")
        with pytest.raises(StoreError, match=f"{name} is empty"):
            build_pyramid(store)

    def test_a_thumbnail_that_does_not_fit_its_frame_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="its frame says"):
            make(tmp_path, thumbnail=np.zeros((3, 3, 3), np.uint8))
