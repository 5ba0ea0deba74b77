"""Fixtures for tests of networks."""

import pytest
import torch
from small_networks import fields, network

from noctile.pipeline.models.network import save_model


@pytest.fixture(scope="module")
def one_thread():
    """Small networks are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a small model."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(folder, network(), fields())
    return folder
