"""Fixtures for tests of slides."""

from pathlib import Path

import pytest
from slide_folders import make_archive


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of files that are slides by name only."""
    return make_archive(tmp_path)
