"""Record of what made a result."""

import json
import platform

from noctile.pipeline.slides.open import open_slide
from noctile.workflows.jobs.provenance import describe, provenance, versions


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
