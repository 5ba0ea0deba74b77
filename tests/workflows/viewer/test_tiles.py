import io

import pytest
from PIL import Image

from noctile.workflows.viewer.layers import NoTileError
from noctile.workflows.viewer.tiles import Tile, draw, parse_shown


@pytest.fixture
def view(viewed, views_of):
    return views_of(viewed / "results").get("a")


@pytest.mark.parametrize(
    ("layer", "kind", "size"),
    [
        ("slide", "JPEG", (476, 512)),
        ("mask", "PNG", (476, 512)),
        ("tumor", "PNG", (188, 163)),
        ("confidence", "PNG", (188, 163)),
    ],
)
def test_each_layer_has_its_kind_of_picture(view, layer, kind, size):
    column = 2 if layer in ("slide", "mask") else 0
    tile = Tile(layer, 0, 0, column)
    image = Image.open(io.BytesIO(draw(view, tile)))
    assert (image.format, image.size) == (kind, size)
    assert tile.type == f"image/{kind.lower()}"


def test_a_slide_without_heat_maps_has_no_tile_of_them(view):
    view.heat = None
    with pytest.raises(NoTileError, match="no heat map"):
        draw(view, Tile("tumor", 0, 0, 0))


@pytest.mark.parametrize(
    ("text", "codes"),
    [(None, None), ("", set()), ("1", {1}), ("1,2,255", {1, 2, 255}), (",", set())],
)
def test_codes_that_are_shown(text, codes):
    assert parse_shown(text) == codes


@pytest.mark.parametrize("text", ["a", "-1", "1;2", "1000", "²", "1,2 ", "1," * 1000, "0x1"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="show must be"):
        parse_shown(text)
