"""Formats by name."""

from importlib import import_module

import pytest

from noctile.pipeline.export.formats import FORMATS, Format, check_format


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_function_that_takes_its_options(name):
    module, _, function = FORMATS[name].writer.partition(":")
    code = getattr(import_module(f"noctile.pipeline.export.{module}"), function).__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    assert parameters[:2] == ("source", "path")
    assert set(FORMATS[name].options) == set(parameters[2:])


def test_suffixes_differ():
    assert len({about.suffix for about in FORMATS.values()}) == len(FORMATS)


def test_a_format_is_written_by_its_function(monkeypatch, tmp_path):
    called = []
    module = import_module("noctile.pipeline.export.names")
    monkeypatch.setattr(module, "write", lambda *a, **o: called.append((a, o)), raising=False)
    Format(".x", "names:write").write("source", tmp_path / "a.x", {"labelmap": True})
    assert called == [(("source", tmp_path / "a.x"), {"labelmap": True})]


def test_an_unknown_format_gets_all_names_and_the_nearest():
    assert check_format("geojson") == "geojson"
    with pytest.raises(ValueError, match=r"geojson.*did you mean 'geojson'"):
        check_format("geojso")
