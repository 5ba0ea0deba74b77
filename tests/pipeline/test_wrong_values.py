"""Wrong values of a user in plain words."""

import pytest
from pydantic import ValidationError

from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.wrong_values import MAX_FAULTS, did_you_mean, faults_of, matching
from noctile.workflows.settings import RunSettings


def faults(kind, shown=None, **values) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        kind(**values)
    return faults_of(kind, caught.value, shown)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"device": "gpu"}, 'device must be auto, cpu, cuda or cuda:N; found "gpu"'),
        ({"device": "cuda:1\n"}, 'device must be auto, cpu, cuda or cuda:N; found "cuda:1\\n"'),
        ({"backend": "onnx"}, "backend must be 'auto', 'torch' or 'openvino'; found \"onnx\""),
        ({"engine": "ray"}, "engine must be 'dask' or 'serial'; found \"ray\""),
        ({"workers": "many"}, 'workers must be a whole number; found "many"'),
        ({"workers": 0}, "workers must be 1 or more; found 0"),
        ({"block_px": 1.5}, "block_px must be a whole number; found 1.5"),
        ({"block_px": 99999}, "block_px must be 16384 or less; found 99999"),
        ({"mpp": "abc"}, 'mpp must be a number; found "abc"'),
        ({"mpp": -1}, "mpp must be more than 0; found -1"),
        ({"compile": "maybe"}, 'compile must be true or false; found "maybe"'),
        ({"model": 3}, "model must be text; found 3"),
        ({"tissue": 3}, "tissue must be a table; found 3"),
        ({"tissue": {"mpp": 1}}, "tissue must have an mpp from 2 to 64 (um); found 1.0"),
        ({"tissue": {"mmp": 8}}, "tissue.mmp is unknown; did you mean 'tissue.mpp'?"),
        ({"min_area_mm2": 1}, "min_area_mm2 is unknown; did you mean 'tissue.min_area_mm2'?"),
        ({"batchsize": 4}, "batchsize is unknown; did you mean 'batch_size'?"),
        ({"qqq": 4}, "qqq is unknown"),
        (
            {"until": "tomorrow"},
            "until must be a time such as 07:00, or a date with time such as 2026-11-24T07:00; "
            'found "tomorrow"',
        ),
        (
            {"max_memory_bytes": "much"},
            'max_memory_bytes must be a number with K, M, G or T, such as 500M or 4G; found "much"',
        ),
        (
            {"slide_timeout_s": "1 week"},
            "slide_timeout_s must be a number with s, m, h or d, such as 90s, 30m or 2h; or off; "
            'found "1 week"',
        ),
    ],
)
def test_a_wrong_setting_says_what_it_must_be_and_what_was_found(values, line):
    assert faults(RunSettings, **values) == [line]


def test_a_value_of_a_list_is_named_with_its_number():
    lines = faults(TrainSettings, data=[{"pth": "x", "mpp": 0}], tile_px=33)
    assert lines == [
        "data.0.path is missing",
        "data.0.mpp must be more than 0; found 0",
        "data.0.pth is unknown; did you mean 'data.path'?",
        "tile_px must be a multiple of 32; found 33",
    ]


def test_a_card_is_described_without_words_of_the_library():
    lines = faults(ModelCard, name="../x", classes=[], mpp=float("nan"), sha256="0", licence=None)
    assert lines == [
        "name must have 1 to 64 of the characters a-z, A-Z, 0-9, '_', '.' and '-', a letter or "
        'digit first; found "../x"',
        "description is missing",
        "classes must have 1 or more values; found []",
        "mpp must be a finite number; found NaN",
        'sha256 must have 64 of the characters 0-9 and a-f; found "0"',
        "licence must be text; found null",
    ]


def test_an_option_is_named_as_the_user_typed_it():
    assert faults(RunSettings, {"workers": "--workers"}, workers=0) == [
        "--workers must be 1 or more; found 0"
    ]


def test_a_million_wrong_values_are_a_few_short_lines():
    lines = faults(RunSettings, **{f"x{n}" * 100: n for n in range(1000)}, model=["y" * 100] * 100)
    assert len(lines) == MAX_FAULTS + 1
    assert lines[-1] == f"and {1001 - MAX_FAULTS} more"
    assert max(map(len, lines)) < 200


def test_a_similar_word_is_suggested():
    assert did_you_mean("tumr", ["tumor", "other"]) == "; did you mean 'tumor'?"
    assert did_you_mean("zzz", ["tumor", "other"]) == ""


def test_a_pattern_fits_the_whole_text():
    check = matching("a+", "must be a, once or more")
    assert check("aa") == "aa"
    with pytest.raises(ValueError, match="must be a, once or more"):
        check("aab")
