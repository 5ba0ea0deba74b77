"""The model card: defaults and consistency. Reading a card stands in test_folder.py."""

import pytest
from pydantic import ValidationError

from noctile.pipeline.models.card import ModelCard

FIELDS = {
    "name": "m",
    "description": "",
    "classes": [{"code": 1, "name": "tumor", "color": (200, 0, 0), "role": "tumor"}],
    "mpp": 0.5,
    "sha256": "0" * 64,
    "licence": "CC0-1.0",
}


def test_a_card_can_leave_out_the_usual_tile_and_colors():
    card = ModelCard.model_validate(FIELDS)
    assert (card.tile_px, card.overlap_px, card.stain) == (512, 128, None)
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize(("field", "second"), [("code", {"name": "x"}), ("name", {"code": 2})])
def test_two_classes_differ_in_code_and_name(field, second):
    classes = [*FIELDS["classes"], {**FIELDS["classes"][0], **second}]
    with pytest.raises(ValidationError, match=f"two classes have the same {field}"):
        ModelCard.model_validate({**FIELDS, "classes": classes})


@pytest.mark.parametrize(
    "fields",
    [{"overlap_px": 512}, {"overlap_px": 3}, {"tile_px": 48}, {"std": (0, 1, 1)}, {"mpp": "nan"}],
)
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(ValidationError):
        ModelCard.model_validate({**FIELDS, **fields})


def test_a_card_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        ModelCard.model_validate(FIELDS).mpp = 1.0
