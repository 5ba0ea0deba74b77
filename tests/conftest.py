"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from standins import threshold_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real slides and regions that stand beside the repository, never in it."""
    folder = Path(os.environ.get("NOCTILE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"real data is not here: {folder} (set NOCTILE_SHARED_DATA to a folder laid out like it)"
        )
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a run keeps for the next one is kept from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOCTILE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model without a network."""
    return threshold_model(tmp_path_factory.mktemp("model"))


settings.register_profile(
    "noctile", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("noctile")
