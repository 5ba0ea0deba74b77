"""How large a pixel is: five sources in a fixed order, and a gate for what cannot be true."""

import math
from dataclasses import dataclass

from noctile.pipeline.errors import MppImplausibleError, MppMissingError
from noctile.pipeline.slides.base import MppSource
from noctile.pipeline.slides.tiff.tags import NO_RESOLUTION

PLAUSIBLE_UM = (0.1, 1.5)
"""Level 0 of a slide scan: 100x oil immersion is 0.1 um/px or a little less, 10x is 1; converters
err by 10 or 100."""

_UM_AT_POWER_1 = 10.0
"""um/px times objective power: 20x is about 0.5. Real scanners lie up to 10 % off, so that it is an
estimate."""

_SAME = 1e-6
"""Two statements of a pixel size that differ by less (relative) are one."""


@dataclass(frozen=True, slots=True)
class MppCandidates:
    """What each source says of the size of a level-0 pixel.

    Attributes:
        user: the call or the manifest (um; y, x), or None.
        metadata: the reader library (um; y, x), or None.
        file_name: the file's name (um), or None.
        tags: the TIFF resolution tags (um; y, x), or None.
        tags_text: those tags as they stand, for messages.
        objective_power: nominal magnification, or None.
    """

    user: tuple[float, float] | None = None
    metadata: tuple[float, float] | None = None
    file_name: float | None = None
    tags: tuple[float, float] | None = None
    tags_text: str = NO_RESOLUTION
    objective_power: float | None = None


def resolve_mpp(slide_id: str, said: MppCandidates) -> tuple[float, float, MppSource]:
    """The size of a level-0 pixel and where it comes from: the first source that says something.

    Readers hand on what the TIFF tags say as if it were the scanner's metadata; where both are
    equal, the tags are named.

    Args:
        slide_id: for messages.
        said: by each source.

    Returns:
        ``mpp_y, mpp_x, source`` (um).

    Raises:
        MppMissingError: if no source says anything.
        MppImplausibleError: if the first that does is outside `PLAUSIBLE_UM`.
    """
    mpp, source = _first(said)
    if mpp is None:
        raise MppMissingError(
            f"slide {slide_id}: nothing says how large a pixel is. The reader finds no pixel size, no objective "
            f"power is stated, its name has no _MPP-, and the file has {said.tags_text}. {_WHAT_TO_DO}"
        )
    low, high = PLAUSIBLE_UM
    if not all(low <= side <= high for side in mpp):
        raise MppImplausibleError(
            f"slide {slide_id}: a pixel is {_words(mpp)} according to {_who(source, said)}, but level 0 of a slide "
            f"scan lies between {low:g} and {high:g} um/px. {_WHAT_TO_DO}"
        )
    return *mpp, source


_WHAT_TO_DO = (
    "If you know the true size, pass it, for instance --mpp 0.25, or fill the column mpp of the manifest; "
    "otherwise leave the slide out"
)


def _first(said: MppCandidates) -> tuple[tuple[float, float] | None, MppSource]:
    if said.user:
        return said.user, "user"
    if said.metadata and not _equal(said.metadata, said.tags):
        return said.metadata, "metadata"
    if said.file_name:
        return (said.file_name, said.file_name), "file name"
    if said.tags:
        return said.tags, "tiff tags"
    estimate = _UM_AT_POWER_1 / said.objective_power if said.objective_power else None
    return (estimate, estimate) if estimate else None, "objective power"


def _equal(one: tuple[float, float], other: tuple[float, float] | None) -> bool:
    return other is not None and all(
        math.isclose(a, b, rel_tol=_SAME) for a, b in zip(one, other, strict=True)
    )


def _who(source: MppSource, said: MppCandidates) -> str:
    return {
        "user": "the call or the manifest",
        "metadata": "the file's metadata",
        "file name": "the file's name",
        "tiff tags": f"the {said.tags_text}",
        "objective power": f"the objective power of {said.objective_power} (10 / power, an estimate)",
    }[source]


def _words(mpp: tuple[float, float]) -> str:
    y, x = mpp
    return (
        f"{y:.4g} um"
        if math.isclose(y, x, rel_tol=1e-3)
        else f"{y:.4g} um high and {x:.4g} um wide"
    )
