"""Conventions of QuPath: coordinates of a slide, and GeoJSON features that it imports.

QuPath counts pixels of level 0 from the corner of the scanned region: where a file states bounds
(``openslide.bounds-x``), it crops the slide to them (qupath#820). The label map begins at the same
corner, so a scale leads from one to the other. (qupath-core, QuPathTypeAdapters and
GsonTools.PathClassTypeAdapter)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from noctile.pipeline.geometry import Frame

ObjectType = Literal["annotation", "detection"]
"""Kinds of objects in QuPath: annotations are edited one by one, detections come in thousands."""


def level0_scale(frame: Frame, mpp_y: float, mpp_x: float) -> tuple[float, float]:
    """Level-0 pixels that a pixel of a frame covers, as ``(y, x)``.

    A position in the frame times this scale is the position in the slide as QuPath opens it. In
    the slide's file it lies further right and down by the bounds.

    Args:
        frame: frame that begins at the corner of the scanned region, such as that of a label map.
        mpp_y: height of a level-0 pixel (um).
        mpp_x: width of a level-0 pixel (um).
    """
    return frame.mpp_y / mpp_y, frame.mpp_x / mpp_x


def classification(name: str, color: Sequence[int]) -> dict[str, Any]:
    """Class of a feature. QuPath reads no class without a colour."""
    return {"name": name, "color": [int(value) for value in color]}


def properties(
    name: str,
    color: Sequence[int],
    *,
    object_type: ObjectType = "annotation",
    locked: bool = False,
    measurements: Mapping[str, float] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Properties of a feature, as QuPath reads them.

    ``type`` repeats the name of the class for TIAViz, which colours by it.

    Args:
        name: name of the class.
        color: R, G, B of the class, 0..255 each.
        object_type: kind of the object.
        locked: True keeps the object from being moved by mistake.
        measurements: figures of the object by name.
        metadata: texts of the object by name.
    """
    optional = {"measurements": measurements, "metadata": metadata}
    return {
        "objectType": object_type,
        "isLocked": locked,
        "classification": classification(name, color),
        "type": name,
        **{key: dict(values) for key, values in optional.items() if values},
    }
