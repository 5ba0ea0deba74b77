"""Results of a small run, and a viewer that shows them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from viewer_client import Client, make_results, serving

from noctile.workflows.commands.opened import open_results
from noctile.workflows.viewer.listing import Listing
from noctile.workflows.viewer.views import Views


@pytest.fixture(scope="session")
def viewed(tmp_path_factory) -> Path:
    """Folder with ``slides`` and ``results``: a slide with tissue, and a file that is no slide."""
    return make_results(tmp_path_factory.mktemp("viewed"))


@pytest.fixture
def own(viewed, tmp_path) -> Path:
    """A copy of the results, for a test that changes them; the slides stay where they are."""
    return Path(shutil.copytree(viewed / "results", tmp_path / "results"))


@pytest.fixture
def views_of() -> Callable[[Path], Views]:
    """Function that opens the slides of a folder of results."""

    def open_views(path: Path) -> Views:
        results = open_results(path)
        return Views(results, Listing(results))

    return open_views


@pytest.fixture(scope="session")
def client(viewed) -> Iterator[Client]:
    """Program that sends requests to a viewer of the results."""
    with serving(viewed / "results") as client:
        yield client


@pytest.fixture
def serve():
    """Function that runs a viewer of a folder."""
    return serving
