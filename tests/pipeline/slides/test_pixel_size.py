"""Size of a level-0 pixel: the five sources, their order, and implausible sizes."""

import pytest

from noctile.pipeline.errors import MppImplausibleError, MppMissingError
from noctile.pipeline.slides.pixel_size import MppCandidates, resolve_mpp


@pytest.mark.parametrize(
    ("said", "resolved"),
    [
        (
            MppCandidates(user=(0.3, 0.31), metadata=(0.5, 0.5), objective_power=40),
            (0.3, 0.31, "user"),
        ),
        (
            MppCandidates(metadata=(0.5, 0.51), tags=(0.25, 0.25), objective_power=40),
            (0.5, 0.51, "metadata"),
        ),
        (MppCandidates(metadata=(0.25, 0.25), tags=(0.25, 0.25)), (0.25, 0.25, "tiff tags")),
        (MppCandidates(metadata=(0.5, 0.51), file_name=0.25), (0.5, 0.51, "metadata")),
        (
            MppCandidates(file_name=0.25, metadata=(352.8, 352.8), tags=(352.8, 352.8)),
            (0.25, 0.25, "file name"),
        ),
        (MppCandidates(tags=(0.25, 0.26), objective_power=20), (0.25, 0.26, "tiff tags")),
        (MppCandidates(objective_power=20), (0.5, 0.5, "objective power")),
    ],
)
def test_the_first_source_with_a_pixel_size_is_used(
    said: MppCandidates, resolved: tuple[float, float, str]
) -> None:
    assert resolve_mpp("a", said) == resolved


def test_without_any_source_the_error_names_the_options() -> None:
    with pytest.raises(
        MppMissingError,
        match=r"slide a: .* no _MPP-.* no TIFF resolution.* --mpp 0\.25.*column mpp",
    ):
        resolve_mpp("a", MppCandidates())


@pytest.mark.parametrize(
    ("said", "who"),
    [
        (MppCandidates(user=(25.0, 25.0)), "25 um according to the call"),
        (MppCandidates(metadata=(28.968, 28.969)), "28.97 um according to the file's metadata"),
        (
            MppCandidates(metadata=(0.25, 0.0025)),
            "0.25 um high and 0.0025 um wide according to the file's metadata",
        ),
        (
            MppCandidates(tags=(352.8, 352.8), tags_text="TIFF tags X 72/1"),
            "352.8 um according to the TIFF tags X 72/1",
        ),
        (MppCandidates(file_name=25.0), "25 um according to the file's name"),
        (MppCandidates(objective_power=1.25), "8 um according to the objective power of 1.25"),
    ],
)
def test_implausible_sizes_are_errors_that_name_their_source(said: MppCandidates, who: str) -> None:
    with pytest.raises(MppImplausibleError) as refused:
        resolve_mpp("a", said)
    assert who in str(refused.value)
    assert "--mpp 0.25" in str(refused.value)


@pytest.mark.parametrize("mpp", [0.1, 0.12, 0.234, 0.2527, 0.499, 1.0, 1.5])
def test_the_pixel_sizes_of_real_scanners_pass(mpp: float) -> None:
    assert resolve_mpp("a", MppCandidates(metadata=(mpp, mpp))) == (mpp, mpp, "metadata")
