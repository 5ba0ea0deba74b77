"""One tile of a layer of a slide, as a picture."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from noctile.workflows.viewer.layers import NoTileError
from noctile.workflows.viewer.masks import MAPS
from noctile.workflows.viewer.views import SlideView

STYLES = ("fill", "outline")
"""Styles of a label map."""

_QUALITY = 85
"""Quality of the JPEG tiles: the slide itself has been compressed with 70 to 90."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Tile that a request wants.

    Attributes:
        layer: "slide", "mask", or the name of a heat map.
        d: level.
        row: row of the tile.
        col: column of the tile.
        shown: codes of the classes that are visible in a mask; None for all.
        style: one of `STYLES`.
    """

    layer: str
    d: int
    row: int
    col: int
    shown: frozenset[int] | None = None
    style: str = "fill"

    @property
    def type(self) -> str:
        """Media type of the picture."""
        return "image/jpeg" if self.layer == "slide" else "image/png"


def parse_shown(text: str | None) -> frozenset[int] | None:
    """Parse codes of classes, separated by commas; None for all classes, "" for no class.

    Raises:
        ValueError: if it is anything else.
    """
    if text is None:
        return None
    codes = [code for code in text.split(",") if code] if len(text) <= 1024 else ["too long"]
    if not all(code.isascii() and code.isdigit() and len(code) <= 3 for code in codes):
        raise ValueError("show must be codes of classes, separated by commas")
    return frozenset(map(int, codes))


def draw(view: SlideView, tile: Tile) -> bytes:
    """Draw a tile, as JPEG for the slide and as PNG for all others.

    Raises:
        NoTileError: if there is no such tile.
        SlideError: if the slide or its result cannot be read.
    """
    place = tile.d, tile.row, tile.col
    if tile.layer == "slide":
        out = io.BytesIO()
        pixels = np.ascontiguousarray(view.image.tile(*place))
        Image.fromarray(pixels).save(out, "JPEG", quality=_QUALITY)
        return out.getvalue()
    if tile.layer == "mask":
        return view.labels.tile(place, tile.shown, tile.style)
    if tile.layer not in MAPS or view.heat is None:
        raise NoTileError(f"the result has no heat map of {tile.layer}")
    return view.heat.tile(tile.layer, place)
