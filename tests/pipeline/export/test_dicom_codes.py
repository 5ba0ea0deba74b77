from pydicom.sr._concepts_dict import concepts
from standins import MASK_CLASSES

from noctile.pipeline.export import dicom_codes
from noctile.pipeline.export.dicom_codes import class_codes
from noctile.pipeline.models.card import ClassInfo


def test_known_classes_have_the_codes_of_snomed_ct():
    tumor, stroma, other = (class_codes(info) for info in MASK_CLASSES)
    assert (tumor[1].value, tumor[1].scheme_designator) == ("108369006", "SCT")
    assert (stroma[1].value, stroma[1].scheme_designator) == ("21793004", "SCT")
    assert (other[1].value, other[1].scheme_designator) == ("class_21", "99NOCTILE")
    assert other[1].meaning == "other"


def test_each_code_is_one_that_pydicom_knows_with_this_meaning():
    known = {
        (value, meaning)
        for meanings in concepts["SCT"].values()
        for value, (meaning, _) in meanings.items()
    }
    used = {pair for pairs in dicom_codes._SCT.values() for pair in pairs}
    named = {(value, meaning.casefold()) for value, meaning in known}
    assert {(value, meaning.casefold()) for value, meaning in used} <= named


def test_a_tumor_of_an_unknown_name_is_a_neoplasm_and_long_names_fit():
    dcis = ClassInfo(code=20, name="dcis", color=(1, 2, 3), role="tumor")
    assert class_codes(dcis)[1].value == "108369006"
    long = ClassInfo(code=4, name="x" * 60, color=(1, 2, 3), role="tissue")
    assert len(class_codes(long)[1].meaning) <= 64
