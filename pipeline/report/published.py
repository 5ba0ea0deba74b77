"""Published figures on BCSS, each with its split and definition, for comparison in the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_OFFICIAL = "BCSS's official test institutes (OL, LL, E2, EW, GM, S3)"
_DEFINITION = (
    "Dice per class, from TIAToolbox's documentation of SemanticSegmentor, where the table names "
    "no metric; 'all' is the mean of the five"
)


@dataclass(frozen=True, slots=True)
class Published:
    """Published Dice of the five classes of scheme ``bcss5``.

    Attributes:
        source: authors, or name of the program.
        split: description of the regions behind the figures.
        definition: definition of the figures.
        dice: Dice of each class by its name, and of "all".
    """

    source: str
    split: str
    definition: str
    dice: Mapping[str, float]


_NAMES = ("tumor", "stroma", "inflammatory", "necrosis", "other", "all")

PUBLISHED: Final = (
    Published(
        "Amgad et al. 2019 (doi 10.1093/bioinformatics/btz083)",
        _OFFICIAL,
        _DEFINITION,
        dict(zip(_NAMES, (0.851, 0.800, 0.712, 0.723, 0.666, 0.750), strict=True)),
    ),
    Published(
        "TIAToolbox, fcn_resnet50_unet-bcss",
        _OFFICIAL,
        _DEFINITION,
        dict(zip(_NAMES, (0.885, 0.825, 0.761, 0.765, 0.581, 0.763), strict=True)),
    ),
)


@dataclass(frozen=True, slots=True)
class Study:
    """Figures of the study that this evaluation reproduces; shares from 0 to 1.

    Attributes:
        split: description of the regions behind the figures.
        accuracy: share of all pixels that are right.
        precision: precision of tumor.
        recall: recall of tumor.
        stated_f1: F1 of tumor as the study states it.
    """

    split: str
    accuracy: float
    precision: float
    recall: float
    stated_f1: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the study's own precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)


STUDY: Final = Study(
    split="its own: tiles of 512 pixels of BCSS, not said to be by patient",
    accuracy=0.954,
    precision=0.945,
    recall=0.918,
    stated_f1=0.9205,
)
"""U-Net with ResNet34: accuracy of pixels, P and R of tumor. The stated F1 is not the harmonic mean
of P and R."""
