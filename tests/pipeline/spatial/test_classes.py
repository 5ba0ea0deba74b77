import numpy as np
import pytest

from noctile.pipeline.models.card import ClassInfo, Role
from noctile.pipeline.spatial.classes import codes_of, has_code, normalized, tissue_kinds
from noctile.pipeline.truth.scheme import BUILT_IN


def info(name: str, role: Role = "tissue", code: int = 7) -> ClassInfo:
    return ClassInfo(code=code, name=name, color=(1, 2, 3), role=role)


def test_all_kinds_are_found_in_the_21_classes_of_bcss():
    kinds = tissue_kinds(BUILT_IN["bcss21"].classes)
    assert codes_of(kinds.tumor) == [1, 19, 20]
    assert codes_of(kinds.invasive) == [1, 19]
    assert codes_of(kinds.stroma) == [2]
    assert codes_of(kinds.inflammatory) == [3, 10, 11]
    assert codes_of(kinds.necrosis) == [4]


def test_all_kinds_are_found_in_the_groups_of_bcss():
    kinds = tissue_kinds(BUILT_IN["bcss5"].classes)
    found = [kinds.tumor, kinds.invasive, kinds.stroma, kinds.inflammatory, kinds.necrosis]
    assert list(map(codes_of, found)) == [[1], [1], [2], [3], [4]]


def test_a_model_of_tumor_and_other_has_no_other_kind():
    kinds = tissue_kinds(BUILT_IN["tumor"].classes)
    assert kinds.tumor == kinds.invasive != ()
    assert kinds.stroma == kinds.inflammatory == kinds.necrosis == ()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Stroma", "stroma"),
        ("Tumour__associated_stroma", "stroma"),
        ("TILs", "inflammatory"),
        ("inflamed_stroma", "inflammatory"),
        ("Necrosis_or_debris", "necrosis"),
    ],
)
def test_names_are_found_in_any_case(name, kind):
    assert getattr(tissue_kinds([info(name)]), kind) == (info(name),)


def test_the_role_decides_about_tumor():
    assert tissue_kinds([info("stroma", "tumor")]).stroma == ()
    assert tissue_kinds([info("tumor", "tissue")]).tumor == ()
    assert tissue_kinds([info("stroma", "ignore")]).stroma == ()


def test_the_ending_of_a_threshold_does_not_hide_carcinoma_in_situ():
    assert normalized("dcis_map_0_75") == normalized("DCIS_map_1") == "dcis"
    assert tissue_kinds([info("dcis_map_0_5", "tumor")]).invasive == ()


def test_pixels_are_found_by_their_codes():
    labels = np.random.default_rng(0).integers(0, 256, (40, 31)).astype(np.uint8)[:, ::2]
    assert (has_code(labels, [3, 200]) == np.isin(labels, [3, 200])).all()
    assert not has_code(labels, []).any()
