"""Inference servers that compute on the CPU."""

from contextlib import closing
from functools import partial

import pytest

from noctile.pipeline.models.load import load_predictor
from noctile.workflows.inference.server import InferenceServers


@pytest.fixture
def servers(model):
    with closing(InferenceServers(["0"], partial(load_predictor, model, "cpu"))) as servers:
        yield servers
