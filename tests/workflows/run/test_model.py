"""Model of a call, with the resources of this machine."""

import pytest

from noctile.pipeline.errors import UsageError
from noctile.workflows.run.model import open_model
from noctile.workflows.run.run import open_context
from noctile.workflows.settings import RunSettings


def test_a_model_is_found_and_checked(model):
    opened = open_model(RunSettings(model=str(model), device="cpu", engine="serial"))
    assert opened.folder == str(model.resolve())
    assert opened.card.name == "dark"
    assert (opened.resources.device, opened.resources.workers) == ("cpu", 1)


def test_a_run_has_the_same_key(model, tmp_path):
    settings = RunSettings(model=str(model), device="cpu", engine="serial")
    assert open_model(settings).pixels_key == open_context(settings, tmp_path).pixels_key


def test_an_unknown_model_is_a_usage_error():
    with pytest.raises(UsageError, match="no-such"):
        open_model(RunSettings(model="no-such"))
