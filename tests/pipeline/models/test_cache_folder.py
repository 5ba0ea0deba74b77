"""The folder of the cache: the user's own, and closed to others where code is loaded from it."""

import os
from pathlib import Path

import pytest

from noctile.pipeline.models.cache_folder import cache_folder, private_cache_folder


@pytest.mark.parametrize(
    ("own", "xdg", "folder"),
    [("a", "b", "a"), ("", "b", "b/noctile"), ("", "", "home/.cache/noctile")],
)
def test_the_folder_follows_the_environment(own, xdg, folder, monkeypatch):
    monkeypatch.setenv("NOCTILE_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "home")
    assert cache_folder() == Path(folder)


def test_a_private_folder_is_made_and_used_again(monkeypatch, tmp_path):
    monkeypatch.setenv("NOCTILE_CACHE", str(tmp_path / "cache"))
    folder = private_cache_folder("torch")
    assert folder == tmp_path / "cache" / "torch"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_cache_folder("torch") == folder


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
@pytest.mark.parametrize("kind", ["writable by others", "a link", "a file", "another user's"])
def test_a_folder_into_which_another_user_can_put_code_is_refused(monkeypatch, tmp_path, kind):
    monkeypatch.setenv("NOCTILE_CACHE", str(tmp_path))
    folder = tmp_path / "torch"
    if kind == "a file":
        folder.touch()
    elif kind == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777 if kind == "writable by others" else 0o755)
    if kind == "another user's":
        if os.getuid():
            pytest.skip("only root can give a folder to another user")
        os.chown(folder, 65534, 65534)
    with pytest.raises(OSError, match="torch"):
        private_cache_folder("torch")
