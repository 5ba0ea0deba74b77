"""Record of what made a result."""

import json
import platform
from dataclasses import replace

from noctile.pipeline.roi.confinement import Confinement
from noctile.pipeline.slides.open import open_slide
from noctile.workflows.jobs.provenance import (
    confinement,
    describe,
    given_values,
    provenance,
    versions,
)


def test_versions_name_python_and_the_packages_that_pixels_depend_on():
    assert versions()["python"] == platform.python_version()
    assert {"noctile", "torch", "zarr", "numpy", "tiffslide"} <= versions().keys()


def test_a_mask_names_its_slide_its_model_and_the_settings_of_its_pixels(run, entry):
    reader = open_slide(entry.path, slide_id="a")
    try:
        about = json.loads(json.dumps(provenance(reader.info, run)))
        assert about["slide"] == json.loads(json.dumps(describe(reader.info)))
    finally:
        reader.close()
    assert about["slide"]["extent_px"] == [900, 1100]
    assert about["model"]["sha256"] == run.card.sha256
    assert about["settings"]["block_px"] == 480
    assert "workers" not in about["settings"]
    assert (about["device"], about["backend"]) == ("cpu", run.resources.backend)


def test_given_values_are_null_unless_the_user_gave_them(entry):
    assert given_values(entry) == {"mpp_given": None, "channel_order_given": None}
    stated = replace(entry, mpp=(0.5, 0.25), bgr=True)
    assert given_values(stated) == {"mpp_given": [0.5, 0.25], "channel_order_given": "bgr"}
    assert given_values(replace(entry, bgr=False))["channel_order_given"] == "rgb"


def test_a_slide_is_confined_by_the_files_of_its_manifest(entry, tmp_path):
    assert confinement(entry) == Confinement()
    given = replace(entry, roi=tmp_path / "r", tissue_mask=tmp_path / "m")
    assert confinement(given) == Confinement(tmp_path / "r", tmp_path / "m")
