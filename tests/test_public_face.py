"""The names that `import noctile` offers."""

import subprocess
import sys
from pathlib import Path

import pytest

import noctile


def test_the_declared_names_are_these():
    assert dir(noctile) == sorted(noctile.__all__)
    assert set(noctile.__all__) == {*noctile._PUBLIC, "__version__"}


@pytest.mark.parametrize("name", sorted(noctile._PUBLIC))
def test_each_name_leads_to_a_documented_object_of_its_own_module(name):
    found = getattr(noctile, name)
    assert f"{found.__module__}:{found.__name__}" == f"noctile.{noctile._PUBLIC[name]}"
    assert found.__doc__


def test_any_other_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = noctile.no_such_name


def test_importing_noctile_imports_nothing_heavy():
    heavy = {"numpy", "torch", "zarr", "pandas", "pydantic", "openslide", "click"}
    heavy |= {"noctile.pipeline", "noctile.workflows"}
    program = f"import sys, noctile; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_slide_is_opened_and_read_in_two_lines(kind, repo):
    reader = noctile.open_slide(kind(repo / "sample_slides" / "scan-40x.svs"))
    pixels = reader.read(reader.info.frame.at(8.0).box, 8.0)
    reader.close()
    assert pixels.shape[2] == 3
    assert pixels.std() > 5
