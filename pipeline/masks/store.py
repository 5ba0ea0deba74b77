"""The masks of one slide on disk: OME-Zarr 0.5, sharded, each shard written once, whole, by one
task.

::

    mask.ome.zarr/            the slide in small (c, y, x), with as many levels as the label map has
      0 .. n-1 labels/classes/         the label map (y, x) uint8: class codes, 0 = not analysed;
      and, as ``noctile``, whence
        0 .. n-1              one file for each shard that has a label: <level>/c/<row>/<col>
    heat.ome.zarr/            tumor probability and confidence (c, y, x), uint8 0..255 for 0..1, 1/8
      of the label map 0

A shard is written to a temporary name and renamed (`noctile.pipeline.masks.shard`), so that whoever
is killed leaves a whole shard or none. Same labels, same bytes: chunks are encoded alone and stand
in Morton order. On the first levels a shard covers one block, so that its task writes all of them;
on the others it is as large as a block.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks import ngff
from noctile.pipeline.masks.downsample import halve_image, halve_labels
from noctile.pipeline.masks.shard import LEVEL, PARTIAL, read_shard, write_shard
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import HEAT_FACTOR

UInt8 = npt.NDArray[np.uint8]

LABELS = "classes"
"""Name of the label image."""

HEAT_NAME = "heat.ome.zarr"
"""Folder of the maps, beside the mask's."""

_LABELS_PATH = f"labels/{LABELS}"

OWN_LEVELS = 3
"""On so many levels, the finest first, a shard has the labels of one block: 1, 1/4 and 1/16 of its
pixels.

Blocks are multiples of 8 px, so their corners are pixels' corners there. To read a label map again
in order to halve it costs as much as halving it (benchmarks/RESULTS.md); from here on that is 1/16
of it.
"""

_COARSEST_PX = 512
"""The pyramid ends where its longest side fits this (px): what a viewer shows as a thumbnail."""

_OVERVIEW_CHUNK_PX = 256

_ZSTD = ZstdCodec(level=LEVEL)

_MODE = {
    "type": "mode",
    "metadata": {
        "method": "noctile.pipeline.masks.downsample.halve_labels",
        "description": "most frequent of 2 x 2 labels; ties: the smallest code but 0; pixels outside do not vote",
    },
}
_MEAN = {
    "type": "mean",
    "metadata": {
        "method": "noctile.pipeline.masks.downsample.halve_image",
        "description": "mean of 2 x 2 pixels, halves rounded up",
    },
}
_POOL = {
    "type": "mean",
    "metadata": {
        "description": f"mean over the analysed pixels of {HEAT_FACTOR} x {HEAT_FACTOR} label-map pixels x 255"
    },
}
_HEAT_COLORS = {"tumor_probability": "FF0000", "confidence": "00FF00"}


@dataclass(frozen=True)
class MaskLayout:
    """How a slide's masks are cut; arithmetic only.

    Attributes:
        frame: of the label map.
        block_px: side of a block, i.e. of a shard (px), a multiple of `HEAT_FACTOR`.
        chunk_px: side of a chunk inside a shard (px), divides the block.
        classes: of the model.

    Raises:
        ValueError: if block and chunk do not fit.
    """

    frame: Frame
    block_px: int
    chunk_px: int
    classes: tuple[ClassInfo, ...]

    def __post_init__(self) -> None:
        if (
            self.block_px < 1
            or self.block_px % HEAT_FACTOR
            or self.chunk_px < 1
            or self.block_px % self.chunk_px
        ):
            raise ValueError(
                f"block_px ({self.block_px}) must be a multiple of {HEAT_FACTOR} and of chunk_px ({self.chunk_px})"
            )

    @property
    def levels(self) -> int:
        """Number of pyramid levels."""
        longest, levels = max(self.frame.extent.height, self.frame.extent.width), 1
        while longest > _COARSEST_PX:
            longest, levels = -(-longest // 2), levels + 1
        return levels

    @cached_property
    def level_frames(self) -> tuple[Frame, ...]:
        """Frames of the pyramid's levels, finest first; the first is ``frame``."""
        return tuple(self.frame.coarser(2**level) for level in range(self.levels))

    @property
    def heat_frame(self) -> Frame:
        """Frame of the maps."""
        return self.frame.coarser(HEAT_FACTOR)

    def shard_px(self, level: int) -> int:
        """Side of a shard of a level (px)."""
        return self.block_px >> level if level < OWN_LEVELS else self.block_px

    def level_chunk_px(self, level: int) -> int:
        """Side of a chunk of a level (px)."""
        return math.gcd(self.shard_px(level), self.chunk_px)

    def block(self, row: int, col: int, level: int = 0) -> Box:
        """Pixels of a shard of a level, cut to the level's frame; those of level 0 are the blocks."""
        side = self.shard_px(level)
        return Box(row * side, col * side, side, side).intersect(self.level_frames[level].box)

    def key(self, box: Box, level: int = 0) -> tuple[int, int]:
        """(row, col) of the shard of a level in which a box begins."""
        side = self.shard_px(level)
        return box.y // side, box.x // side

    def parent(self, row: int, col: int, level: int) -> tuple[int, int]:
        """(row, col) of the shard of the next level that a shard lies under."""
        fine, coarse = self.shard_px(level), 2 * self.shard_px(level + 1)
        return row * fine // coarse, col * fine // coarse

    def is_block(self, box: Box) -> bool:
        """Whether a box is exactly a block of the label map's grid."""
        key = self.key(box)
        return min(key) >= 0 and box.area > 0 and box == self.block(*key)

    def cells(self, box: Box) -> Box:
        """The maps' pixels under a box that starts on a map pixel's edge, and ends on one or at the
        frame's edge.

        Raises:
            ValueError: if the box does not.
        """
        edge = self.frame.extent
        loose_y = box.y % HEAT_FACTOR or (box.y_stop % HEAT_FACTOR and box.y_stop != edge.height)
        loose_x = box.x % HEAT_FACTOR or (box.x_stop % HEAT_FACTOR and box.x_stop != edge.width)
        if loose_y or loose_x:
            raise ValueError(f"{box} cuts through pixels of the maps ({HEAT_FACTOR} px)")
        return self.frame.project(box, self.heat_frame)


class MaskStore:
    """The masks of one slide. Cheap to open; processes may write different blocks at the same time,
    without locks.

    Attributes:
        path: the folder ``mask.ome.zarr``.
        layout: how it is cut.
        overview_frame: of the slide in small.
    """

    def __init__(self, path: Path, layout: MaskLayout, overview_frame: Frame) -> None:
        self.path, self.layout, self.overview_frame = path, layout, overview_frame
        self._opened: dict[tuple[Path, str, str], Any] = {}

    @property
    def heat_path(self) -> Path:
        """The folder ``heat.ome.zarr``, beside ``path``."""
        return self.path.with_name(HEAT_NAME)

    @classmethod
    def create(
        cls,
        path: Path,
        layout: MaskLayout,
        overview: UInt8,
        overview_frame: Frame,
        provenance: Mapping[str, Any],
    ) -> "MaskStore":
        """Lay out both folders, without a label. The same arguments make the same bytes.

        Args:
            path: ``mask.ome.zarr``; neither it nor ``heat.ome.zarr`` beside it may exist.
            layout: how to cut.
            overview: uint8 ``[h, w, 3]``, the slide in small.
            overview_frame: of the overview.
            provenance: plain values for the attribute ``noctile``; ``slide`` says ``mpp`` and
                ``bounds_px`` of level 0.

        Raises:
            StoreError: if something stands there already, or the file system refuses.
            ValueError: if overview or provenance are not as said.
        """
        if (
            overview.shape != (overview_frame.extent.height, overview_frame.extent.width, 3)
            or overview.dtype != np.uint8
        ):
            raise ValueError(
                f"the overview is {overview.dtype} {overview.shape}, but its frame says {overview_frame.extent}"
            )
        about = {
            "layout": _layout_to_json(layout, overview_frame),
            "level0_affine": ngff.level0_affine(layout.frame, provenance.get("slide", {})),
            **provenance,
        }
        store = cls(path, layout, overview_frame)
        for folder in (path, store.heat_path):
            if folder.exists():
                raise StoreError(
                    f"{folder} exists already and is not replaced; delete it to have the slide done again"
                )
        with _io(path, "written", "free space or fix the permissions of its folder"):
            store._create_overview(overview)
            store._create_heat()
            store._create_labels(about)
        return store

    @classmethod
    def open(cls, path: Path) -> "MaskStore":
        """Open what `create` made.

        Raises:
            StoreError: if it is not there, not complete, or not Noctile's.
        """
        with _io(path, "read", "delete it to have the slide done again"):
            about = zarr.open_group(
                LocalStore(path, read_only=True), path=_LABELS_PATH, mode="r"
            ).attrs.asdict()
            store = cls(path, *_layout_from_json(about["noctile"]))
            store._array(path, f"{_LABELS_PATH}/0", "r")
        return store

    def write(self, box: Box, labels: UInt8, heat: UInt8, confidence: UInt8) -> None:
        """Write one block: its maps' shard and its label shards of the first levels, the finest
        last.

        Twice is as good as once.

        Args:
            box: exactly a block of the grid, cut to the frame.
            labels: uint8 ``[h, w]``, class codes or 0; a block of zeros has no shard.
            heat: uint8 ``[ceil(h / 8), ceil(w / 8)]``, tumor probability x 255.
            confidence: like ``heat``, probability of the winning class x 255.

        Raises:
            ValueError: if the box is no block, or the arrays do not fit it or the classes.
            StoreError: if the file system refuses.
        """
        if not self.layout.is_block(box):
            raise ValueError(
                f"{box} is not a block of {self.path}: blocks are {self.layout.block_px} px, cut to the frame"
            )
        cells = self.layout.cells(box)
        for what, array, extent in (
            ("labels", labels, box.extent),
            ("heat", heat, cells.extent),
            ("confidence", confidence, cells.extent),
        ):
            if array.dtype != np.uint8 or array.shape != (extent.height, extent.width):
                raise ValueError(
                    f"{what} of {box} must be uint8 {extent}, not {array.dtype} {array.shape}"
                )
        self._check_codes(labels)
        key = self.layout.key(box)
        self._put(self.heat_path, "0", (0, *key), np.stack((heat, confidence)))
        levels = [labels]
        while len(levels) < min(OWN_LEVELS, self.layout.levels):
            levels.append(halve_labels(levels[-1]))
        for level in reversed(range(len(levels))):
            self.write_labels(self.layout.block(*key, level), levels[level], level)

    def write_labels(self, box: Box, labels: UInt8, level: int) -> None:
        """Write one shard of one pyramid level, for `write` and `build_pyramid`. Zeros have no
        shard.

        Raises:
            StoreError: if the file system refuses.
            ValueError: if the box is not that of a shard, or the labels do not fit it.
        """
        key = self.layout.key(box, level)
        if box != self.layout.block(*key, level) or labels.shape != (box.height, box.width):
            raise ValueError(
                f"labels {labels.shape} at {box} are not a shard of level {level} of {self.path}"
            )
        if labels.any():
            self._put(self.path, f"{_LABELS_PATH}/{level}", key, labels)

    def read(self, box: Box, level: int = 0) -> UInt8:
        """Labels of a box, which must lie in the level's frame; 0 where nothing was written.

        Returns:
            uint8 ``[box.height, box.width]``.

        Raises:
            StoreError: if what stands there cannot be decoded.
            ValueError: if the box reaches outside.
        """
        if not self.layout.level_frames[level].box.contains(box):
            raise ValueError(
                f"{box} reaches outside level {level}: {self.layout.level_frames[level].extent}"
            )
        name, key = f"{_LABELS_PATH}/{level}", self.layout.key(box, level)
        if box != self.layout.block(*key, level):
            return self._get(self.path, name, box.slices())
        with self._reading(self.path, name) as array:
            return read_shard(
                _shard(array, key), (box.height, box.width), array.shards, array.chunks
            )

    def read_level(self, level: int) -> UInt8:
        """All labels of a pyramid level, uint8 ``[h, w]``: a byte per pixel, so mind the size of
        the fine ones.

        Raises:
            StoreError: if what stands there cannot be decoded.
        """
        return self.read(self.layout.level_frames[level].box, level)

    def read_maps(self, box: Box) -> tuple[UInt8, UInt8]:
        """Tumor probability and confidence under a box of the label map, x 255; 0 where nothing was
        written.

        Args:
            box: in label-map pixels; starts on a multiple of 8, ends on one or at the frame's edge.

        Returns:
            two uint8 ``[ceil(h / 8), ceil(w / 8)]``.

        Raises:
            StoreError: if what stands there cannot be decoded.
            ValueError: if the box reaches outside or cuts through pixels of the maps.
        """
        if not self.layout.frame.box.contains(box):
            raise ValueError(f"{box} reaches outside the label map: {self.layout.frame.extent}")
        maps = self._get(self.heat_path, "0", (slice(None), *self.layout.cells(box).slices()))
        return maps[0], maps[1]

    def read_thumbnail(self, level: int = 0) -> UInt8:
        """The slide in small, uint8 ``[h, w, 3]``; its frame is
        ``overview_frame.coarser(2**level)``.

        Raises:
            StoreError: if what stands there cannot be decoded.
        """
        channels_first = self._get(self.path, str(level), (slice(None),) * 3)
        return np.moveaxis(channels_first, 0, -1)

    def stored_blocks(self, level: int = 0) -> list[tuple[int, int]]:
        """(row, col) of the shards of a pyramid level that have a label, sorted.

        Raises:
            StoreError: if the folder cannot be listed.
        """
        folder = self.path / _LABELS_PATH / str(level) / "c"
        with _io(folder, "listed", "fix the permissions of the folder"):
            files = folder.glob("*/*") if folder.exists() else ()
            return sorted((int(f.parent.name), int(f.name)) for f in files if f.name.isdigit())

    def settle(self) -> None:
        """Remove what killed writers left, and look for empty files. Only for when no block is
        being written.

        A power cut can leave a renamed file without its bytes, and zarr takes an empty shard for
        one that was never written (3.1.6, ``ShardingCodec._load_full_shard_maybe``): its tumor
        would be missing without a word.

        Raises:
            StoreError: if a shard is empty, or the file system refuses.
        """
        for folder in (self.path / _LABELS_PATH, self.heat_path):
            with _io(folder, "cleared of temporary files", "fix the permissions of the folder"):
                for leftover in folder.glob(f"*/c/**/*{PARTIAL}"):
                    leftover.unlink(missing_ok=True)
                empty = [
                    f for f in folder.glob("*/c/**/*") if f.is_file() and f.stat().st_size == 0
                ]
            if empty:
                raise StoreError(
                    f"{empty[0]} is empty ({len(empty)} such); delete {self.path.parent} to have the slide done again"
                )

    def _check_codes(self, labels: UInt8) -> None:
        codes = sorted(c.code for c in self.layout.classes)
        if (
            codes[-1] == len(codes) and labels.max() <= codes[-1]
        ):  # 1..n without a gap: quick to check
            return
        known = np.zeros(256, np.bool_)
        known[[0, *codes]] = True
        if not known[labels].all():
            strange = np.setdiff1d(labels, np.flatnonzero(known))
            raise ValueError(
                f"labels {strange.tolist()} are no class of {self.path}: {np.flatnonzero(known).tolist()}"
            )

    def _create_overview(self, overview: UInt8) -> None:
        frames = [self.overview_frame.coarser(2**level) for level in range(self.layout.levels)]
        scales = ngff.multiscale("overview", frames, self.layout.frame, channels=True, method=_MEAN)
        attributes = {
            "ome": {"version": ngff.VERSION, "multiscales": [scales], "omero": ngff.omero()}
        }
        zarr.create_group(LocalStore(self.path), attributes=attributes)
        pixels = overview
        for level, frame in enumerate(frames):
            side = _OVERVIEW_CHUNK_PX
            whole = tuple(-(-n // side) * side for n in (frame.extent.height, frame.extent.width))
            self._create_array(self.path, str(level), frame.extent, 3, (3, *whole), (3, side, side))
            self._put(self.path, str(level), (0, 0, 0), np.moveaxis(pixels, -1, 0))
            pixels = halve_image(pixels)

    def _create_heat(self) -> None:
        frame, side = self.layout.heat_frame, self.layout.block_px // HEAT_FACTOR
        scales = ngff.multiscale("heat", [frame], self.layout.frame, channels=True, method=_POOL)
        attributes = {
            "ome": {
                "version": ngff.VERSION,
                "multiscales": [scales],
                "omero": ngff.omero(_HEAT_COLORS),
            }
        }
        zarr.create_group(LocalStore(self.heat_path), attributes=attributes)
        self._create_array(self.heat_path, "0", frame.extent, 2, (2, side, side), (1, side, side))

    def _create_labels(self, about: Mapping[str, Any]) -> None:
        """The label image's own metadata come last: a store without them is not complete."""
        store, layout = LocalStore(self.path), self.layout
        zarr.create_group(
            store, path="labels", attributes={"ome": {"version": ngff.VERSION, "labels": [LABELS]}}
        )
        for level, frame in enumerate(layout.level_frames):
            shard, chunk = layout.shard_px(level), layout.level_chunk_px(level)
            self._create_array(
                self.path, f"{_LABELS_PATH}/{level}", frame.extent, 0, (shard,) * 2, (chunk,) * 2
            )
        scales = ngff.multiscale(LABELS, layout.level_frames, layout.frame, method=_MODE)
        ome: dict[str, Any] = {
            "version": ngff.VERSION,
            "multiscales": [scales],
            "image-label": ngff.image_label(layout.classes),
        }
        zarr.open_group(store, path=_LABELS_PATH, mode="r+").attrs.put(
            {"ome": ome, "noctile": dict(about)}
        )

    def _create_array(
        self,
        root: Path,
        name: str,
        extent: Extent,
        channels: int,
        shard: tuple[int, ...],
        chunk: tuple[int, ...],
    ) -> None:
        self._opened[root, name, "r+"] = zarr.create_array(
            LocalStore(root),
            name=name,
            shape=(channels, extent.height, extent.width)
            if channels
            else (extent.height, extent.width),
            dtype="uint8",
            shards=shard,
            chunks=chunk,
            compressors=_ZSTD,
            fill_value=0,
            dimension_names=("c", "y", "x") if channels else ("y", "x"),
        )

    def _put(self, root: Path, name: str, key: tuple[int, ...], values: UInt8) -> None:
        """Write the whole of a shard, cut to the array."""
        with _io(root / name, "written", "free space or fix the permissions of its folder"):
            array = self._array(root, name, "r+")
            write_shard(_shard(array, key), values, array.shards, array.chunks)

    def _get(self, root: Path, name: str, where: tuple[slice, ...]) -> UInt8:
        with self._reading(root, name) as array:
            values: UInt8 = np.asarray(array[where], np.uint8)
            return values

    @contextmanager
    def _reading(self, root: Path, name: str) -> Iterator[Any]:
        with _io(root / name, "read", f"delete {self.path.parent} to have the slide done again"):
            yield self._array(root, name, "r")

    def _array(self, root: Path, name: str, mode: Literal["r", "r+"]) -> Any:
        """An array of this store, opened once; it is what `create` made of the layout, or
        somebody's who wants memory.

        Raises:
            ValueError: if it is not what `create` made.
        """
        if array := self._opened.get((root, name, mode)):
            return array
        array = zarr.open_array(LocalStore(root, read_only=mode == "r"), path=name, mode=mode)
        side, edge = self.layout.block_px, _OVERVIEW_CHUNK_PX
        channels: tuple[int, ...] = ()
        if root == self.heat_path:
            frame, channels, shard, chunk = (
                self.layout.heat_frame,
                (2,),
                side // HEAT_FACTOR,
                side // HEAT_FACTOR,
            )
        elif name.startswith(_LABELS_PATH):
            level = int(name.rpartition("/")[2])
            frame = self.layout.level_frames[level]
            shard, chunk = self.layout.shard_px(level), self.layout.level_chunk_px(level)
        else:
            frame, channels, shard, chunk = (
                self.overview_frame.coarser(2 ** int(name)),
                (3,),
                0,
                edge,
            )
        expected: tuple[Any, ...] = (
            (*channels, frame.extent.height, frame.extent.width),
            np.uint8,
            (chunk, chunk),
        )
        found = array.shape, array.dtype, array.chunks[-2:]
        if expected != found or (shard and (array.shards or ())[-2:] != (shard, shard)):
            raise ValueError(
                f"its shape, type and chunks {found} are not {expected} as Noctile makes them"
            )
        if mode == "r+" and array.compressors != (_ZSTD,):
            raise ValueError(
                f"its chunks are encoded by {array.compressors}, not by {_ZSTD} as Noctile's"
            )
        self._opened[root, name, mode] = array
        return array


def _shard(array: Any, key: tuple[int, ...]) -> Path:
    """The file of one of an array's shards."""
    file: Path = array.store.root / array.path / array.metadata.encode_chunk_key(key)
    return file


@contextmanager
def _io(path: Path, done: str, todo: str) -> Iterator[None]:
    """What disk and decoders say, as a `StoreError`: zarr raises ValueError, zstd RuntimeError on
    damaged bytes.
    """
    try:
        yield
    except (
        OSError,
        ValueError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as error:
        raise StoreError(f"{path} cannot be {done}: {error!r}; {todo}") from error


def _layout_to_json(layout: MaskLayout, overview_frame: Frame) -> dict[str, Any]:
    return {
        "frame": _frame_to_json(layout.frame),
        "overview_frame": _frame_to_json(overview_frame),
        "block_px": layout.block_px,
        "chunk_px": layout.chunk_px,
        "classes": [c.model_dump(mode="json") for c in layout.classes],
    }


def _layout_from_json(about: Any) -> tuple[MaskLayout, Frame]:
    values = about["layout"]
    classes = tuple(ClassInfo.model_validate(c) for c in values["classes"])
    layout = MaskLayout(
        _frame_from_json(values["frame"]), values["block_px"], values["chunk_px"], classes
    )
    return layout, _frame_from_json(values["overview_frame"])


def _frame_to_json(frame: Frame) -> dict[str, Any]:
    return {
        "extent_px": [frame.extent.height, frame.extent.width],
        "mpp": [frame.mpp_y, frame.mpp_x],
    }


def _frame_from_json(values: Any) -> Frame:
    return Frame(Extent(*values["extent_px"]), *values["mpp"])
