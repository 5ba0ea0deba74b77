"""Annotations drawn into pixels, as codes."""

from collections.abc import Sequence

import numpy as np

from noctile.pipeline.arrays import UInt8
from noctile.pipeline.errors import UsageError
from noctile.pipeline.geometry import Box, Frame
from noctile.pipeline.truth.geojson import Annotation, class_codes, normalize_name
from noctile.pipeline.truth.points import disc
from noctile.pipeline.truth.raster import fill
from noctile.pipeline.truth.scheme import IGNORED, OUTSIDE, ClassScheme


def draw_codes(
    annotations: Sequence[Annotation],
    scheme: ClassScheme,
    frame: Frame,
    target: Frame,
    box: Box,
    origin: str,
) -> UInt8:
    """Draw annotations as codes.

    A pixel has the class of the smallest annotation in which its centre lies, of those in the
    highest layer. A point is smaller than any area; it has the class of a disc (`disc`).

    Args:
        annotations: annotations of the slide.
        scheme: class scheme; its class names are known besides those of BCSS and QuPath.
        frame: frame of the slide's level 0.
        target: frame of the result's pixels.
        box: part of ``target`` that is drawn.
        origin: name of the file, for the message.

    Returns:
        uint8 ``[box.height, box.width]``; `OUTSIDE` where there is no annotation, and outside the
        outer frames if there are any.

    Raises:
        UsageError: if an annotation's class is not known.
    """
    known = class_codes(scheme)
    coded = []
    for annotation in annotations:
        code = OUTSIDE if annotation.label is None else _code(annotation.label, known, origin)
        if annotation.removed:
            code = code_without(code, scheme)
        coded.append((annotation, code))
    scale = frame.mpp_y / target.mpp_y, frame.mpp_x / target.mpp_x
    return draw_coded(coded, scale, target.mpp, box)


def draw_coded(
    coded: Sequence[tuple[Annotation, int]], scale: tuple[float, float], mpp: float, box: Box
) -> UInt8:
    """Draw annotations whose codes are known; see `draw_codes`.

    Args:
        coded: annotations of the slide with their codes; the code of an outer frame is not used.
        scale: pixels of the result for each pixel of level 0, as ``(y, x)``.
        mpp: pixel size of the result (um).
        box: part of the result that is drawn.

    Returns:
        uint8 ``[box.height, box.width]``; `OUTSIDE` where there is no annotation, and outside the
        outer frames if there are any.
    """
    factors = np.array(scale)
    codes = np.full((box.height, box.width), OUTSIDE, np.uint8)
    for annotation, code in sorted(coded, key=lambda one: (one[0].layer, -one[0].area_px)):
        if annotation.label is None:
            continue
        if annotation.point is not None:
            y, x = np.array(annotation.point) * factors - (box.y, box.x)
            codes[disc((y, x), mpp, codes.shape)] = code
        else:
            fill(codes, annotation.polygons, code, factors, box)
    if frames := [annotation for annotation, _ in coded if annotation.label is None]:
        inside = np.zeros_like(codes)
        for annotation in frames:
            fill(inside, annotation.polygons, 1, factors, box)
        codes[inside == 0] = OUTSIDE
    return codes


def code_without(code: int, scheme: ClassScheme) -> int:
    """Code of an area that was taken away from the class of a code.

    It is that of the only other class, if this is a tissue. Else it is not known which class the
    area has, and it is `OUTSIDE`.
    """
    own = scheme.sources.get(code, IGNORED)
    others = [k for k, info in enumerate(scheme.classes) if k != own and info.role != "ignore"]
    if own == IGNORED or len(others) != 1 or scheme.classes[others[0]].role != "tissue":
        return OUTSIDE
    codes = [code for code, k in scheme.sources.items() if k == others[0]]
    own_code = scheme.classes[others[0]].code
    return own_code if own_code in codes else min(codes)


def _code(label: str, known: dict[str, int], origin: str) -> int:
    code = known.get(normalize_name(label))
    if code is None:
        raise UsageError(
            f"{origin}: class {label!r:.80} is not known. Known are {', '.join(sorted(known))}. "
            "Rename it, or add it as a class to a scheme of your own (--classes my.toml)"
        )
    return code
