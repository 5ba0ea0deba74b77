"""DICOM codes of classes: SNOMED CT where a class has a known code, else a scheme of Noctile.

Sources: DICOM PS3.16, context groups 7150 (categories) and 7151 (types of segmented properties),
as pydicom lists them. Names of classes are those of BCSS and of its groups.
"""

from typing import TYPE_CHECKING

from noctile.pipeline.models.card import ClassInfo

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

PRIVATE_SCHEME = "99NOCTILE"
"""Designator of the scheme of classes without a known code. 99 marks a private scheme (PS3.16)."""

_ALTERED = ("49755003", "Morphologically Abnormal Structure")
_TISSUE = ("85756007", "Tissue")
_SUBSTANCE = ("91720002", "Body Substance")
_ANATOMY = ("91723000", "Anatomical Structure")

_SCT = {
    "tumor": (_ALTERED, ("108369006", "Neoplasm")),
    "necrosis": (_ALTERED, ("6574001", "Necrosis")),
    "necrosis_or_debris": (_ALTERED, ("6574001", "Necrosis")),
    "stroma": (_TISSUE, ("21793004", "Connective tissue")),
    "fat": (_TISSUE, ("55603005", "Fat")),
    "tissue": (_TISSUE, ("85756007", "Tissue")),
    "blood": (_SUBSTANCE, ("87612001", "Blood")),
    "blood_vessel": (_ANATOMY, ("59820001", "Blood Vessel")),
    "lymphatics": (_ANATOMY, ("83555006", "Lymphatic vessel")),
    "nerve": (_ANATOMY, ("91728009", "Nerve")),
}
"""Category and type, each with code value and meaning, by the name of the class."""


def class_codes(info: ClassInfo) -> tuple["Code", "Code"]:
    """Category and type of a class as DICOM codes.

    A class of an unknown name is a neoplasm if its role is tumor, and else has its own name in the
    scheme of Noctile.
    """
    from pydicom.sr.coding import Code  # noqa: PLC0415 - takes 0.1 s, and only DICOM needs it

    known = _SCT.get(info.name) or (_SCT["tumor"] if info.role == "tumor" else None)
    if known:
        category, kind = (Code(value, "SCT", meaning) for value, meaning in known)
        return category, kind
    name = info.name[:64]  # the longest meaning of a code
    return Code(_TISSUE[0], "SCT", _TISSUE[1]), Code(f"class_{info.code}", PRIVATE_SCHEME, name)
