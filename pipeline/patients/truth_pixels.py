"""True classes of the analysed pixels of a slide, from areas that people annotated."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from noctile.pipeline.arrays import Int64
from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.roi.cut import Cut, strips
from noctile.pipeline.truth.drawing import draw_coded
from noctile.pipeline.truth.geojson import Annotation, normalize_name
from noctile.pipeline.truth.raster import cover
from noctile.pipeline.truth.scheme import OUTSIDE
from noctile.pipeline.untrusted import printable
from noctile.pipeline.wrong_values import did_you_mean

if TYPE_CHECKING:
    from noctile.pipeline.masks.store import MaskStore

_NO_CLASS: Final = "ignore*"
"""QuPath's class of areas without a class, as `normalize_name` gives it."""

Coded = tuple[Annotation, int]
"""An annotation, and the code of its class in the label map."""


def code_annotations(
    annotations: Sequence[Annotation], classes: Sequence[ClassInfo], origin: str
) -> list[Coded]:
    """Give each annotation the code that its class has in the label map.

    Args:
        annotations: annotations of a slide.
        classes: classes of the label map.
        origin: name of the file, for the message.

    Raises:
        UsageError: if the model does not have a class.
    """
    codes = {_NO_CLASS: OUTSIDE} | {normalize_name(info.name): info.code for info in classes}
    return [(one, _code(one.label, codes, origin)) for one in annotations]


def _code(label: str | None, codes: Mapping[str, int], origin: str) -> int:
    """Code of a class; that of an outer frame, which has no class, is `OUTSIDE`."""
    if label is None:
        return OUTSIDE
    name = normalize_name(label)
    if name not in codes:
        raise UsageError(
            f"{origin}: the model has no class {printable(label)!r:.80}"
            f"{did_you_mean(name, list(codes))}; known are {', '.join(codes)}. Rename the class"
        )
    return codes[name]


def count_truth(
    store: "MaskStore", coded: Sequence[Coded], scale: tuple[float, float], left_out: Cut | None
) -> Int64:
    """Count the analysed pixels of a slide by their true class, block by block.

    Args:
        store: masks of the slide.
        coded: annotations of the slide with their codes.
        scale: pixels of the label map for each pixel of level 0, as ``(y, x)``.
        left_out: regions whose pixels do not count; None without any.

    Returns:
        int64 ``[256]``: number of pixels of each code; that of 0 is the number of analysed pixels
        without a true class.

    Raises:
        StoreError: if the masks cannot be read.
    """
    layout, counts = store.layout, np.zeros(256, np.int64)
    covers = [_cover(one, scale) for one, _ in coded]
    for row, col in store.stored_shards():
        block = layout.shard_box(row, col)
        near = [
            one
            for one, own in zip(coded, covers, strict=True)
            if one[0].label is None or own.intersect(block).area
        ]
        for box in strips(block):
            analysed = store.read(box) > 0
            if left_out and left_out.touches(box):
                analysed &= ~left_out.inside(box)
            if analysed.any():
                codes = draw_coded(near, scale, layout.frame.mpp, box)
                counts += np.bincount(codes[analysed], minlength=256)
    return counts


def _cover(annotation: Annotation, scale: tuple[float, float]) -> Box:
    """Smallest box of the label map that covers an annotation."""
    box = annotation.box
    return cover(np.array([(box.y, box.x), (box.y_stop, box.x_stop)]) * scale)
