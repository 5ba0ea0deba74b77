"""Small pictures of slides."""

import io

import numpy as np
import pytest
from PIL import Image

from noctile.pipeline.report.thumbnails import MOST_BYTES, comment_of, thumbnail


def test_pictures_are_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "preview.jpg", quality=95)
    content = thumbnail(tmp_path / "preview.jpg", b"noctile 1 2")
    assert len(content) <= MOST_BYTES
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (320, 180)
    (tmp_path / "small.jpg").write_bytes(content)
    assert comment_of(tmp_path / "small.jpg") == b"noctile 1 2"


def test_files_of_other_kinds_are_refused(tmp_path):
    for name, content in (("text", b"no picture"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        assert comment_of(tmp_path / name) is None
        with pytest.raises((OSError, ValueError)):
            thumbnail(tmp_path / name, b"x")
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    with pytest.raises((OSError, ValueError)):
        thumbnail(tmp_path / "p.png", b"x")
    assert comment_of(tmp_path / "missing") is None


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("noctile.pipeline.report.thumbnails._PREVIEW_PX", 15)
    Image.new("RGB", (4, 4)).save(tmp_path / "p.jpg")
    with pytest.raises(ValueError, match="more than 15 px"):
        thumbnail(tmp_path / "p.jpg", b"x")
