"""The masks of one slide on disk: two folders of OME-Zarr 0.5.

::

    mask.ome.zarr/
      0 .. n-1           levels of the slide's thumbnail (c, y, x)
      labels/classes/    label map (y, x), uint8: class codes, 0 = not analysed; its attribute
        |                ``noctile`` holds the slide, the model and the versions
        0 .. n-1         levels of the label map, with one file a shard: <level>/c/<row>/<col>
    heat.ome.zarr/
      0                  heat maps (c, y, x), uint8 0..255 for 0..1, at 1/8 of the label map's size:
                         tumor probability and confidence

Each shard is written once, whole, by one task. It is written under a temporary name and renamed
(`noctile.pipeline.masks.shard`), so that a process that is killed leaves a whole shard or none. The
same labels make the same bytes, because each chunk is encoded alone and the chunks lie in Morton
order. A shard without a label has no file. `noctile.pipeline.masks.layout` divides the masks into
shards.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import StoreError
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.masks import ngff
from noctile.pipeline.masks.downsample import halve_image, halve_labels
from noctile.pipeline.masks.layout import (
    BLOCK_LEVELS,
    MaskLayout,
    layout_from_json,
    layout_to_json,
    thumbnail_array,
)
from noctile.pipeline.masks.shard import PARTIAL
from noctile.pipeline.masks.zarr_folder import ZarrFolder, read_attributes, store_errors

if TYPE_CHECKING:
    import zarr

HEAT_NAME = "heat.ome.zarr"
"""Name of the folder of the heat maps, beside that of the mask."""

_LABELS_GROUP = "labels"
_LABEL_MAP = f"{_LABELS_GROUP}/{ngff.LABELS}"
_HEAT_MAPS = "0"


class MaskStore:
    """The masks of one slide, written block by block and read at any level.

    A store opens quickly. Several processes may write different blocks at the same time without
    locks.

    Attributes:
        path: the folder ``mask.ome.zarr``.
        layout: division of the masks into levels, shards and chunks.
        thumbnail_frame: frame of the thumbnail.
    """

    def __init__(self, path: Path, layout: MaskLayout, thumbnail_frame: Frame) -> None:
        self.path, self.layout, self.thumbnail_frame = path, layout, thumbnail_frame
        levels = range(layout.levels)
        thumbnails = {
            str(level): thumbnail_array(thumbnail_frame.coarser(2**level)) for level in levels
        }
        labels = {_label_array(level): layout.label_array(level) for level in levels}
        self._mask = ZarrFolder(path, thumbnails | labels)
        self._heat = ZarrFolder(self.heat_path, {_HEAT_MAPS: layout.heat_array})

    @property
    def heat_path(self) -> Path:
        """The folder ``heat.ome.zarr``, beside ``path``."""
        return self.path.with_name(HEAT_NAME)

    @classmethod
    def create(
        cls,
        path: Path,
        layout: MaskLayout,
        thumbnail: UInt8,
        thumbnail_frame: Frame,
        provenance: Mapping[str, Any],
    ) -> "MaskStore":
        """Create both folders, with a thumbnail and without labels.

        The same arguments make the same bytes.

        Args:
            path: the folder ``mask.ome.zarr``; neither it nor ``heat.ome.zarr`` beside it may
                exist.
            layout: division of the masks.
            thumbnail: uint8 ``[h, w, 3]``, the slide at a coarse resolution.
            thumbnail_frame: frame of the thumbnail.
            provenance: plain values for the attribute ``noctile``; ``slide`` holds ``mpp`` and
                ``bounds_px`` of the slide's level 0.

        Raises:
            StoreError: if a folder exists already, or the file system refuses.
            ValueError: if the thumbnail does not fit its frame, or the provenance is incomplete.
        """
        extent = thumbnail_frame.extent
        if thumbnail.shape != (extent.height, extent.width, 3) or thumbnail.dtype != np.uint8:
            raise ValueError(
                f"the thumbnail is {thumbnail.dtype} {thumbnail.shape}, but its frame says {extent}"
            )
        about = {
            "layout": layout_to_json(layout, thumbnail_frame),
            "level0_affine": ngff.level0_affine(layout.frame, provenance.get("slide", {})),
            **provenance,
        }
        store = cls(path, layout, thumbnail_frame)
        for folder in (path, store.heat_path):
            if folder.exists():
                raise StoreError(
                    f"{folder} exists already and is not replaced; delete it to have the slide "
                    "done again"
                )
        with store_errors(path, "written", "free space or fix the permissions of its folder"):
            store._create_thumbnail(thumbnail)
            store._create_heat_maps()
            store._create_label_map(about)
        return store

    @classmethod
    def open(cls, path: Path) -> "MaskStore":
        """Open the folders that `create` made.

        Raises:
            StoreError: if they are missing, incomplete, or not made by Noctile.
        """
        with store_errors(path, "read", "delete it to have the slide done again"):
            about = read_attributes(path, _LABEL_MAP)["noctile"]
            store = cls(path, *layout_from_json(about["layout"]))
            store._mask.open_array(_label_array(0), "r")
        return store

    def write(self, box: Box, labels: UInt8, heat: UInt8, confidence: UInt8) -> None:
        """Write one block: its shard of the heat maps and its shards of the label map.

        A block has one label shard on each of the first `BLOCK_LEVELS` levels; the finest is
        written last. Writing a block again writes the same files again.

        Args:
            box: exactly a block of the grid, cut to the frame.
            labels: uint8 ``[h, w]``, class codes or 0; a block of zeros gets no label shard.
            heat: uint8 ``[ceil(h / 8), ceil(w / 8)]``, tumor probability x 255.
            confidence: uint8 ``[ceil(h / 8), ceil(w / 8)]``, probability of the predicted class
                x 255.

        Raises:
            StoreError: if the file system refuses.
            ValueError: if the box is no block, or the arrays do not fit it or the classes.
        """
        if not self.layout.is_block(box):
            raise ValueError(
                f"{box} is not a block of {self.path}: blocks are {self.layout.block_px} px, cut "
                "to the frame"
            )
        heat_box = self.layout.heat_box(box)
        _check_shape(f"labels of {box}", labels, box)
        _check_shape(f"heat of {box}", heat, heat_box)
        _check_shape(f"confidence of {box}", confidence, heat_box)
        self._check_codes(labels)
        row, col = self.layout.shard_key(box)
        self._heat.write_shard(_HEAT_MAPS, (0, row, col), np.stack((heat, confidence)))
        levels = [labels]
        while len(levels) < min(BLOCK_LEVELS, self.layout.levels):
            levels.append(halve_labels(levels[-1]))
        for level in reversed(range(len(levels))):
            self.write_labels(self.layout.shard_box(row, col, level), levels[level], level)

    def write_labels(self, box: Box, labels: UInt8, level: int) -> None:
        """Write one label shard of a level; labels that are all 0 get no shard.

        `write` and `build_pyramid` use this.

        Raises:
            StoreError: if the file system refuses.
            ValueError: if the box is not that of a shard, or the labels do not fit it.
        """
        key = self.layout.shard_key(box, level)
        if box != self.layout.shard_box(*key, level) or labels.shape != (box.height, box.width):
            raise ValueError(
                f"labels {labels.shape} at {box} are not a shard of level {level} of {self.path}"
            )
        if labels.any():
            self._mask.write_shard(_label_array(level), key, labels)

    def read(self, box: Box, level: int = 0) -> UInt8:
        """Read the labels of a box; 0 where nothing was written.

        Args:
            box: pixels of the level, all within its frame.
            level: pyramid level.

        Returns:
            uint8 ``[box.height, box.width]``.

        Raises:
            StoreError: if a shard cannot be decoded.
            ValueError: if the box reaches outside the level's frame.
        """
        frame = self.layout.level_frames[level]
        if not frame.box.contains(box):
            raise ValueError(f"{box} reaches outside level {level}: {frame.extent}")
        key = self.layout.shard_key(box, level)
        if box == self.layout.shard_box(*key, level):
            return self._mask.read_shard(_label_array(level), key, box)
        return self._mask.read(_label_array(level), box.slices())

    def read_level(self, level: int) -> UInt8:
        """Read all labels of a pyramid level, uint8 ``[h, w]``.

        The finest level of a large slide takes gigabytes of memory.

        Raises:
            StoreError: if a shard cannot be decoded.
        """
        return self.read(self.layout.level_frames[level].box, level)

    def label_array(self, level: int = 0) -> "zarr.Array[Any]":
        """Open a level of the label map, uint8 ``[h, w]``; pixels are read when it is indexed.

        Raises:
            StoreError: if it cannot be opened, or is not as Noctile makes it.
            ValueError: if there is no such level.
        """
        if not 0 <= level < self.layout.levels:
            raise ValueError(f"{self.path} has levels 0 to {self.layout.levels - 1}, not {level}")
        return self._mask.lazy_array(_label_array(level))

    def heat_array(self) -> "zarr.Array[Any]":
        """Open tumor probability and confidence, uint8 ``[2, h, w]``; read when it is indexed.

        Raises:
            StoreError: if it cannot be opened, or is not as Noctile makes it.
        """
        return self._heat.lazy_array(_HEAT_MAPS)

    def read_heat_maps(self, box: Box) -> tuple[UInt8, UInt8]:
        """Read tumor probability and confidence (both x 255) under a box of the label map.

        Args:
            box: pixels of the label map; starts on a multiple of 8, and ends on one or at the
                frame's edge.

        Returns:
            two uint8 ``[ceil(h / 8), ceil(w / 8)]``; 0 where nothing was written.

        Raises:
            StoreError: if a shard cannot be decoded.
            ValueError: if the box reaches outside, or cuts through heat-map pixels.
        """
        frame = self.layout.frame
        if not frame.box.contains(box):
            raise ValueError(f"{box} reaches outside the label map: {frame.extent}")
        region = (slice(None), *self.layout.heat_box(box).slices())
        heat, confidence = self._heat.read(_HEAT_MAPS, region)
        return heat, confidence

    def read_thumbnail(self, level: int = 0, box: Box | None = None) -> UInt8:
        """Read a level of the slide's thumbnail, or a box within it, uint8 ``[h, w, 3]``.

        The level's frame is ``thumbnail_frame.coarser(2**level)``.

        Raises:
            StoreError: if it cannot be decoded.
        """
        region = (slice(None), *box.slices()) if box else (slice(None),)
        return np.moveaxis(self._mask.read(str(level), region), 0, -1)

    def stored_shards(self, level: int = 0) -> list[tuple[int, int]]:
        """List the positions (row, col) of the label shards of a level that exist, sorted.

        Raises:
            StoreError: if the folder cannot be listed.
        """
        folder = self.path / _label_array(level) / "c"
        with store_errors(folder, "listed", "fix the permissions of the folder"):
            files = folder.glob("*/*") if folder.exists() else ()
            return sorted((int(f.parent.name), int(f.name)) for f in files if f.name.isdigit())

    def shard_path(self, key: tuple[int, int], level: int) -> Path:
        """Return the file of a label shard, which need not exist."""
        return self._mask.shard_path(_label_array(level), key)

    def block_seals(self, key: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Read size and checksum of the index of every shard that `write` made for a block.

        No chunk is decoded.

        Args:
            key: (row, col) of the block.

        Returns:
            seals (`noctile.pipeline.masks.shard.read_seal`) by the path of the shard, relative to
            the folder that holds both stores. Shards that do not exist are left out.

        Raises:
            StoreError: if a shard is empty, torn or cannot be read.
        """
        levels = map(_label_array, range(min(BLOCK_LEVELS, self.layout.levels)))
        shards = [
            (self._heat, _HEAT_MAPS, (0, *key)),
            *((self._mask, name, key) for name in levels),
        ]
        seals = {}
        for folder, name, shard in shards:
            if seal := folder.read_seal(name, shard):
                path = folder.shard_path(name, shard).relative_to(self.path.parent)
                seals[path.as_posix()] = seal
        return seals

    def clean_up(self) -> None:
        """Delete coarse shards and files of killed writers; refuse empty shards of blocks.

        Call it only while no block is being written. `build_pyramid` makes the coarse shards again.

        Zarr takes an empty shard for one that was never written (3.1.6,
        ``ShardingCodec._load_full_shard_maybe``), so its tumor would be lost without a message.

        Raises:
            StoreError: if a shard is empty, or the file system refuses.
        """
        for folder in (self.path / _LABEL_MAP, self.heat_path):
            with store_errors(
                folder, "cleared of temporary files", "fix the permissions of the folder"
            ):
                for leftover in folder.glob(f"*/c/**/*{PARTIAL}"):
                    leftover.unlink(missing_ok=True)
                for level in range(BLOCK_LEVELS, self.layout.levels):
                    for coarse in folder.glob(f"{level}/c/*/*"):
                        coarse.unlink()
                shards = [file for file in folder.glob("*/c/**/*") if file.name.isdigit()]
                empty = [file for file in shards if file.stat().st_size == 0]
            if empty:
                raise StoreError(
                    f"{empty[0]} is empty ({len(empty)} such); delete {self.path.parent} to have "
                    "the slide done again"
                )

    def _check_codes(self, labels: UInt8) -> None:
        """Refuse labels that are no class code and not 0.

        Raises:
            ValueError: if there is such a label.
        """
        codes = sorted(c.code for c in self.layout.classes)
        if codes[-1] == len(codes) and labels.max() <= codes[-1]:
            return  # the codes are 1..n without a gap, so the largest label is enough
        known = np.zeros(256, np.bool_)
        known[[0, *codes]] = True
        if not known[labels].all():
            allowed = np.flatnonzero(known)
            unknown = np.setdiff1d(labels, allowed)
            raise ValueError(
                f"labels {unknown.tolist()} are no class of {self.path}: {allowed.tolist()}"
            )

    def _create_thumbnail(self, thumbnail: UInt8) -> None:
        frames = [self.thumbnail_frame.coarser(2**level) for level in range(self.layout.levels)]
        self._mask.create_group("", ngff.thumbnail_attributes(frames, self.layout.frame))
        for level in range(self.layout.levels):
            self._mask.create_array(str(level))
            self._mask.write_shard(str(level), (0, 0, 0), np.moveaxis(thumbnail, -1, 0))
            thumbnail = halve_image(thumbnail)

    def _create_heat_maps(self) -> None:
        self._heat.create_group("", ngff.heat_attributes(self.layout))
        self._heat.create_array(_HEAT_MAPS)

    def _create_label_map(self, about: Mapping[str, Any]) -> None:
        """Create the label map. Its attributes come last: a store without them is incomplete."""
        self._mask.create_group(_LABELS_GROUP, ngff.label_list_attributes())
        for level in range(self.layout.levels):
            self._mask.create_array(_label_array(level))
        self._mask.set_attributes(_LABEL_MAP, ngff.label_attributes(self.layout, about))


def _label_array(level: int) -> str:
    """Name of the array that holds a level of the label map."""
    return f"{_LABEL_MAP}/{level}"


def _check_shape(name: str, values: UInt8, box: Box) -> None:
    """Refuse an array that is not uint8 or does not cover a box.

    Raises:
        ValueError: if it does not fit.
    """
    if values.dtype != np.uint8 or values.shape != (box.height, box.width):
        raise ValueError(f"{name} must be uint8 {box.extent}, not {values.dtype} {values.shape}")
