"""Kinds of tissue that the spatial measures know, recognised by role and name of a class.

The names are those of the Breast Cancer Semantic Segmentation data set (BCSS), of its groups, and
of the TIGER challenge.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noctile.pipeline.arrays import Bool, UInt8
from noctile.pipeline.models.card import ClassInfo

STROMA = frozenset({"stroma", "tumor_stroma", "tumor_associated_stroma", "desmoplastic_stroma"})
INFLAMMATORY = frozenset(
    {
        *("lymphocytic_infiltrate", "plasma_cells", "other_immune_infiltrate"),
        *("inflammatory", "inflammation", "inflammatory_cells", "inflammatory_infiltrate"),
        *("immune", "immune_cells", "immune_infiltrate", "inflamed_stroma"),
        *("lymphocyte", "lymphocytes", "til", "tils"),
    }
)
NECROSIS = frozenset({"necrosis", "necrotic", "necrosis_or_debris", "necrosis_and_debris"})
IN_SITU = frozenset({"dcis", "in_situ", "in_situ_tumor", "ductal_carcinoma_in_situ"})
"""Normalized names of the classes of each kind."""

_THRESHOLD = re.compile(r"_map_\d+(_\d+)?$")
"""Ending that ``noctile regroup`` gives to a tumor class whose pixels follow from a threshold."""


@dataclass(frozen=True, slots=True)
class TissueKinds:
    """Classes of each kind of tissue; a kind that the model lacks is empty.

    Attributes:
        tumor: classes with the role ``tumor``.
        invasive: these without carcinoma in situ.
        stroma: stroma.
        inflammatory: lymphocytes, plasma cells and other cells of the immune system.
        necrosis: necrosis and debris.
    """

    tumor: tuple[ClassInfo, ...]
    invasive: tuple[ClassInfo, ...]
    stroma: tuple[ClassInfo, ...]
    inflammatory: tuple[ClassInfo, ...]
    necrosis: tuple[ClassInfo, ...]


def tissue_kinds(classes: Sequence[ClassInfo]) -> TissueKinds:
    """Find the kinds of tissue among the classes of a model.

    A class with the role ``tumor`` is tumor, whatever its name; one with the role ``ignore`` is of
    no kind.
    """
    tissue = [info for info in classes if info.role == "tissue"]

    def named(names: frozenset[str]) -> tuple[ClassInfo, ...]:
        return tuple(info for info in tissue if normalized(info.name) in names)

    tumor = tuple(info for info in classes if info.role == "tumor")
    invasive = tuple(info for info in tumor if normalized(info.name) not in IN_SITU)
    return TissueKinds(tumor, invasive, named(STROMA), named(INFLAMMATORY), named(NECROSIS))


def normalized(name: str) -> str:
    """Name of a class in lower case, with single underscores, without the ending of a threshold."""
    plain = re.sub(r"_+", "_", name.lower()).strip("_").replace("tumour", "tumor")
    return _THRESHOLD.sub("", plain)


def codes_of(classes: Sequence[ClassInfo]) -> list[int]:
    """Codes of classes in the label map."""
    return [info.code for info in classes]


def has_code(labels: UInt8, codes: Sequence[int]) -> Bool:
    """Tell of each pixel if it has one of the codes.

    `numpy.isin` takes 8 B for each pixel.

    Args:
        labels: uint8 ``[h, w]``, a label map.
        codes: codes of some classes.

    Returns:
        bool ``[h, w]``.
    """
    table = bytes(code in codes for code in range(256))
    found = np.ascontiguousarray(labels).tobytes().translate(table)
    return np.frombuffer(found, np.bool_).reshape(labels.shape)
