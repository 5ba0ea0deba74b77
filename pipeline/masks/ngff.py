"""OME-NGFF 0.5 metadata as plain values: position, pixel size and colours for viewers.

World coordinates are micrometres. Their origin is the centre of the label map's pixel (0, 0). All
rasters of a slide share their top left corner. So the centre of pixel (0, 0) of a raster with
pixels of ``p`` lies at ``(p - p0) / 2``, where ``p0`` is the label map's pixel. For a pyramid level
that is coarser by ``d`` this is the usual ``(d - 1) / 2 * p0``. It holds for a thumbnail of any
pixel size.

Sources: https://ngff.openmicroscopy.org/0.5 (multiscales, image-label) and, for ``omero``, its
"transitional" section.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from noctile.pipeline.geometry import Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import HEAT_FACTOR

VERSION = "0.5"
"""Version of the specification that the metadata follow."""

LABELS = "classes"
"""Name of the label image."""

NOT_ANALYSED = "not analysed"
"""Meaning of label 0."""

_ALPHA = 128
"""Opacity of a class over the image, 0..255: half, so that the tissue shows through."""

_RGB = {"red": "FF0000", "green": "00FF00", "blue": "0000FF"}
_HEAT_COLORS = {"tumor_probability": "FF0000", "confidence": "00FF00"}

_LABELS_HALVED = {
    "type": "mode",
    "metadata": {
        "method": "noctile.pipeline.masks.downsample.halve_labels",
        "description": (
            "most frequent of 2 x 2 labels; ties: the smallest code but 0; pixels outside do not "
            "vote"
        ),
    },
}
_IMAGE_HALVED = {
    "type": "mean",
    "metadata": {
        "method": "noctile.pipeline.masks.downsample.halve_image",
        "description": "mean of 2 x 2 pixels, halves rounded up",
    },
}
_HEAT_POOLED = {
    "type": "mean",
    "metadata": {
        "description": (
            f"mean over the analysed pixels of {HEAT_FACTOR} x {HEAT_FACTOR} label-map pixels x 255"
        )
    },
}


def thumbnail_attributes(frames: Sequence[Frame], origin: Frame) -> dict[str, Any]:
    """Attributes of the thumbnail, which is the folder's main image.

    Args:
        frames: frames of its levels, finest first.
        origin: frame of the label map.
    """
    scales = multiscale("overview", frames, origin, channels=True, method=_IMAGE_HALVED)
    return {"ome": {"version": VERSION, "multiscales": [scales], "omero": omero(_RGB)}}


def heat_attributes(layout: MaskLayout) -> dict[str, Any]:
    """Attributes of the heat maps, an image with two channels."""
    frames, channels = [layout.heat_frame], True
    scales = multiscale("heat", frames, layout.frame, channels=channels, method=_HEAT_POOLED)
    return {"ome": {"version": VERSION, "multiscales": [scales], "omero": omero(_HEAT_COLORS)}}


def label_list_attributes() -> dict[str, Any]:
    """Attributes of the group that lists the label images."""
    return {"ome": {"version": VERSION, "labels": [LABELS]}}


def label_attributes(layout: MaskLayout, about: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the label map.

    Args:
        layout: division of the masks.
        about: plain values for the attribute ``noctile``.
    """
    scales = multiscale(LABELS, layout.level_frames, layout.frame, method=_LABELS_HALVED)
    ome: dict[str, Any] = {
        "version": VERSION,
        "multiscales": [scales],
        "image-label": image_label(layout.classes),
    }
    return {"ome": ome, "noctile": dict(about)}


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
        name: name that viewers show.
        frames: frames of the levels, finest first; level ``k`` is the array ``str(k)``.
        origin: frame of the label map, which fixes the world's origin.
        channels: if true, the axes are ``c, y, x`` instead of ``y, x``.
        method: how a level is made from the finer one: ``type`` and free-form ``metadata``.
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
    """Transformations from the index of a pixel to the position of its centre (um).

    The format allows a scale and then a translation.
    """
    scale = [frame.mpp_y, frame.mpp_x]
    translation = [(frame.mpp_y - origin.mpp_y) / 2, (frame.mpp_x - origin.mpp_x) / 2]
    return [
        {"type": "scale", "scale": [1.0] * n_lead + scale},
        {"type": "translation", "translation": [0.0] * n_lead + translation},
    ]


def image_label(classes: Sequence[ClassInfo]) -> dict[str, Any]:
    """The entry ``image-label`` of a label map: colour and meaning of every label, 0 included."""
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


def omero(colors: Mapping[str, str]) -> dict[str, Any]:
    """The entry ``omero`` of a uint8 image: colour and range of every channel.

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
    """Affine map from the label map to level 0 of the slide file.

    Coordinates are those of pixel edges, y before x: pixel ``i`` covers ``[i, i + 1)``. The slide's
    bounds are added, so the result counts from the corner of the file's level 0. A program that
    crops to the bounds (QuPath) must subtract them.

    Args:
        label_frame: frame of the label map.
        slide: ``mpp`` (y, x; um) and ``bounds_px`` (y, x, height, width) of the slide's level 0.

    Returns:
        rows ``[a, b, c]`` for y0 and x0: ``y0 = a y + b x + c``, and the same for ``x0``.

    Raises:
        ValueError: if ``slide`` lacks one of both.
    """
    try:
        mpp_y, mpp_x = slide["mpp"]
        y, x, _, _ = slide["bounds_px"]
    except KeyError as error:
        raise ValueError(
            f"a mask must know its slide's mpp and bounds_px; {error} is missing in {dict(slide)}"
        ) from None
    return [[label_frame.mpp_y / mpp_y, 0.0, float(y)], [0.0, label_frame.mpp_x / mpp_x, float(x)]]
