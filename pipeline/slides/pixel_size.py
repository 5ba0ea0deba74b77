"""Size of a level-0 pixel, from five sources in a fixed order, and a check that it is plausible."""

import math
from dataclasses import dataclass

from noctile.pipeline.errors import MppImplausibleError, MppMissingError
from noctile.pipeline.slides.base import MppSource
from noctile.pipeline.slides.tiff.tags import NO_RESOLUTION

PLAUSIBLE_UM = (0.1, 1.5)
"""Smallest and largest plausible pixel of level 0 (um). A scan with 100x oil immersion has 0.1 um
or a little less, one with 10x has 1 um. Converters err by factors of 10 or 100."""

_UM_AT_POWER_1 = 10.0
"""Pixel size (um) times objective power: 20x has about 0.5 um. This is an estimate, real scanners
differ by up to 10 %."""

_SAME = 1e-6
"""Largest relative difference between two pixel sizes that count as equal."""


@dataclass(frozen=True, slots=True)
class MppCandidates:
    """Size of a level-0 pixel according to each source.

    Attributes:
        user: size in the call or the manifest (um; y, x), or None.
        metadata: size that the reader library finds (um; y, x), or None.
        file_name: size in the file's name (um), or None.
        tags: size in the TIFF resolution tags (um; y, x), or None.
        tags_text: TIFF resolution tags in words, for messages.
        objective_power: nominal magnification, or None.
    """

    user: tuple[float, float] | None = None
    metadata: tuple[float, float] | None = None
    file_name: float | None = None
    tags: tuple[float, float] | None = None
    tags_text: str = NO_RESOLUTION
    objective_power: float | None = None


def resolve_mpp(slide_id: str, candidates: MppCandidates) -> tuple[float, float, MppSource]:
    """Choose the size of a level-0 pixel: that of the first source that has one.

    Reader libraries pass on the TIFF tags as if they were the scanner's metadata. If both are
    equal, the source is the tags.

    Args:
        slide_id: name of the slide, for messages.
        candidates: size according to each source.

    Returns:
        ``mpp_y, mpp_x, source`` (um).

    Raises:
        MppMissingError: if no source has a size.
        MppImplausibleError: if the size is outside `PLAUSIBLE_UM`.
    """
    mpp, source = _first(candidates)
    if mpp is None:
        raise MppMissingError(
            f"slide {slide_id}: the pixel size is unknown. The reader finds no pixel size and no "
            f"objective power, the file's name has no _MPP-, and the file has "
            f"{candidates.tags_text}. {_WHAT_TO_DO}"
        )
    low, high = PLAUSIBLE_UM
    if not all(low <= side <= high for side in mpp):
        raise MppImplausibleError(
            f"slide {slide_id}: a pixel is {_in_words(mpp)} according to "
            f"{_origin(source, candidates)}, but level 0 of a slide scan lies between {low:g} and "
            f"{high:g} um/px. {_WHAT_TO_DO}"
        )
    return *mpp, source


_WHAT_TO_DO = (
    "If you know the true size, pass it, for instance --mpp 0.25, or fill the column mpp of the "
    "manifest; otherwise leave the slide out"
)


def _first(candidates: MppCandidates) -> tuple[tuple[float, float] | None, MppSource]:
    if candidates.user:
        return candidates.user, "user"
    if candidates.metadata and not _equal(candidates.metadata, candidates.tags):
        return candidates.metadata, "metadata"
    if candidates.file_name:
        return (candidates.file_name, candidates.file_name), "file name"
    if candidates.tags:
        return candidates.tags, "tiff tags"
    estimate = _UM_AT_POWER_1 / candidates.objective_power if candidates.objective_power else None
    return (estimate, estimate) if estimate else None, "objective power"


def _equal(one: tuple[float, float], other: tuple[float, float] | None) -> bool:
    return other is not None and all(
        math.isclose(a, b, rel_tol=_SAME) for a, b in zip(one, other, strict=True)
    )


def _origin(source: MppSource, candidates: MppCandidates) -> str:
    return {
        "user": "the call or the manifest",
        "metadata": "the file's metadata",
        "file name": "the file's name",
        "tiff tags": f"the {candidates.tags_text}",
        "objective power": f"the objective power of {candidates.objective_power} "
        "(10 / power, an estimate)",
    }[source]


def _in_words(mpp: tuple[float, float]) -> str:
    y, x = mpp
    return (
        f"{y:.4g} um"
        if math.isclose(y, x, rel_tol=1e-3)
        else f"{y:.4g} um high and {x:.4g} um wide"
    )
