"""Names of exported files."""

from pathlib import Path

import pytest

from noctile.pipeline.export.names import file_stems


def test_a_file_is_named_after_the_file_of_its_slide():
    assert file_stems({"p1": Path("/archive/CMU-1.ome.tif")}) == {"p1": "CMU-1.ome"}


@pytest.mark.parametrize("second", ["b/HE.svs", "b/he.ndpi"])
def test_equal_stems_give_way_to_the_ids(second):
    assert file_stems({"HE": "a/HE.svs", "b_HE": second}) == {"HE": "HE", "b_HE": "b_HE"}


def test_a_stem_that_is_the_id_of_another_slide_gives_way():
    stems = file_stems({"x": "/s/y.svs", "y": "/s/z.svs", "v": "/s/z.ndpi"})
    assert stems == {"x": "x", "y": "y", "v": "v"}


@pytest.mark.parametrize("path", ["", "..", "/s/nul.svs", "/s/a\nb.svs", "/s/.svs"])
def test_a_stem_that_cannot_name_a_file_gives_way(path):
    assert file_stems({"a": path}) == {"a": "a"}
