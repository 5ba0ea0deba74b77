"""OME-NGFF 0.5 metadata as plain values: what makes a viewer show the masks in the right place,
sizes and colours.

World coordinates are micrometres; their origin is the centre of the label map's pixel (0, 0). All
rasters of a slide share their top left corner, so the centre of pixel (0, 0) of a raster with
pixels of ``p`` lies at ``(p - p0) / 2``, where ``p0`` is the label map's pixel. For a pyramid level
that is coarser by ``d`` this is the usual ``(d - 1) / 2 * p0``, and it holds for an overview of any
pixel size.

Sources: https://ngff.openmicroscopy.org/0.5 (multiscales, image-label) and, for ``omero``, its
"transitional" section.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from noctile.pipeline.geometry import Frame
from noctile.pipeline.models.card import ClassInfo

VERSION = "0.5"
"""Of the specification that the metadata follow."""

NOT_ANALYSED = "not analysed"
"""What label 0 means."""

_ALPHA = 128
"""Opacity of a class over the image, 0..255: half, so that the tissue shows through."""

_RGB = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}


def multiscale(
    name: str,
    frames: Sequence[Frame],
    origin: Frame,
    *,
    channels: bool = False,
    method: Mapping[str, Any],
) -> dict[str, Any]:
    """One entry of ``multiscales``.

    Args:
        name: shown by viewers.
        frames: of the levels, finest first; level ``k`` is the array ``str(k)``.
        origin: the label map's frame, which fixes the world's origin.
        channels: whether the arrays are ``c, y, x`` instead of ``y, x``.
        method: how a level follows from the finer one: ``type`` and free-form ``metadata``.
    """
    lead = [{"name": "c", "type": "channel"}] if channels else []
    space = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    return {
        "name": name,
        "axes": [*lead, *space],
        "datasets": [
            {"path": str(level), "coordinateTransformations": _to_world(frame, origin, len(lead))}
            for level, frame in enumerate(frames)
        ],
        **method,
    }


def _to_world(frame: Frame, origin: Frame, n_lead: int) -> list[dict[str, Any]]:
    """Index of a pixel -> position of its centre (um): a scale, then a translation, which is what
    the format allows.
    """
    scale = [frame.mpp_y, frame.mpp_x]
    translation = [(frame.mpp_y - origin.mpp_y) / 2, (frame.mpp_x - origin.mpp_x) / 2]
    return [
        {"type": "scale", "scale": [1.0] * n_lead + scale},
        {"type": "translation", "translation": [0.0] * n_lead + translation},
    ]


def image_label(classes: Sequence[ClassInfo]) -> dict[str, Any]:
    """The ``image-label`` of a label map: a colour and properties for every value that a pixel can
    have, 0 included.
    """
    colors = [{"label-value": 0, "rgba": [0, 0, 0, 0]}]
    properties: list[dict[str, Any]] = [{"label-value": 0, "class": NOT_ANALYSED}]
    for c in sorted(classes, key=lambda c: c.code):
        colors.append({"label-value": c.code, "rgba": [*c.color, _ALPHA]})
        properties.append({"label-value": c.code, "class": c.name, "role": c.role})
    return {
        "version": VERSION,
        "colors": colors,
        "properties": properties,
        "source": {"image": "../../"},
    }


def omero(colors: Mapping[str, str] = _RGB) -> dict[str, Any]:
    """How a viewer shows the channels of a uint8 image.

    Args:
        colors: six hexadecimal digits for each channel, by its name, in the channels' order.
    """
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    return {
        "channels": [
            {
                "label": label,
                "color": color,
                "window": window,
                "active": True,
                "coefficient": 1,
                "family": "linear",
            }
            for label, color in colors.items()
        ],
        "rdefs": {"model": "color"},
    }


def level0_affine(label_frame: Frame, slide: Mapping[str, Any]) -> list[list[float]]:
    """Label map -> the slide file's own level 0, as rows ``[a, b, c]``: ``y0 = a y + b x + c``,
    likewise ``x0``.

    Coordinates are of pixel edges, y before x: pixel ``i`` covers ``[i, i + 1)``. The slide's
    bounds are added, so the result counts from the corner of the file's level 0; a program that
    crops to the bounds (QuPath) subtracts them.

    Args:
        label_frame: of the label map.
        slide: ``mpp`` (y, x; um) and ``bounds_px`` (y, x, height, width) of the slide's level 0.

    Raises:
        ValueError: if ``slide`` does not say both.
    """
    try:
        mpp_y, mpp_x = slide["mpp"]
        y, x, _, _ = slide["bounds_px"]
    except KeyError as error:
        raise ValueError(
            f"a mask must know its slide's mpp and bounds_px; {error} is missing in {dict(slide)}"
        ) from None
    return [[label_frame.mpp_y / mpp_y, 0.0, float(y)], [0.0, label_frame.mpp_x / mpp_x, float(x)]]
