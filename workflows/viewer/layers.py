"""Layers of the viewer: the pyramid of tiles of a slide, of its mask and of its heat maps.

All layers of a slide share their top left corner. Level ``d`` of a layer has ``2**d`` pixels of its
finest level in a pixel, along each axis.
"""

from dataclasses import dataclass
from typing import Any

from noctile.pipeline.errors import NoctileError
from noctile.pipeline.geometry import Box, Frame

TILE_PX = 512
"""Side of a tile (px)."""


class NoTileError(NoctileError):
    """A layer has no such tile."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Pyramid of tiles.

    Attributes:
        frame: frame of the finest level.
        levels: number of levels.
    """

    frame: Frame
    levels: int

    @classmethod
    def of(cls, frame: Frame) -> "Layer":
        """Layer whose coarsest level is one tile."""
        longest, levels = max(frame.extent.height, frame.extent.width), 1
        while longest > TILE_PX:
            longest, levels = -(-longest // 2), levels + 1
        return cls(frame, levels)

    def level(self, d: int) -> Frame:
        """Frame of a level."""
        return self.frame.coarser(2**d)

    def box(self, d: int, row: int, col: int) -> Box:
        """Pixels of a tile, cut to the frame of its level.

        Args:
            d: level.
            row: row of the tile.
            col: column of the tile.

        Raises:
            NoTileError: if there is no such tile.
        """
        if not 0 <= d < self.levels:
            raise NoTileError(f"this layer has levels 0 to {self.levels - 1}, not {d}")
        box = Box(row * TILE_PX, col * TILE_PX, TILE_PX, TILE_PX)
        box = box.intersect(self.level(d).box)
        if not box.area:
            raise NoTileError(f"level {d} has no tile in row {row}, column {col}")
        return box

    def to_json(self) -> dict[str, Any]:
        """Size (px), pixel size (um) and number of levels, as the browser needs them."""
        return {
            "width": self.frame.extent.width,
            "height": self.frame.extent.height,
            "mpp_x": self.frame.mpp_x,
            "mpp_y": self.frame.mpp_y,
            "tile_px": TILE_PX,
            "levels": self.levels,
        }
