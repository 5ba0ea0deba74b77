"""Fixtures that are shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from standins import threshold_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and regions, which is never in the repository."""
    folder = Path(os.environ.get("NOCTILE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"there is no real data at {folder}; set NOCTILE_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the cache of the tests apart from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOCTILE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Folder of a model without a network."""
    return threshold_model(tmp_path_factory.mktemp("model"))


settings.register_profile(
    "noctile", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("noctile")
