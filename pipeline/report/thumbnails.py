"""Small pictures of slides for a page, made from their previews."""

import io
from pathlib import Path

from PIL import Image

from noctile.pipeline.untrusted import open_regular

MOST_BYTES = 8_000
"""Largest picture (B), so that those of 5,000 slides take at most 40 MB."""

_WIDTH_PX = 320
_PREVIEW_PX = 2**26
"""Largest preview that is decoded (px)."""

_QUALITIES = (60, 40, 25, 10)


def thumbnail(preview: Path, comment: bytes) -> bytes:
    """Make a small JPEG of a preview.

    Args:
        preview: ``preview.jpg`` of a slide; untrusted.
        comment: text that is kept in the picture.

    Raises:
        OSError: if the preview cannot be read.
        ValueError: if it is no JPEG, or too large.
    """
    with open_regular(preview) as file, Image.open(file, formats=("JPEG",)) as picture:
        if picture.width * picture.height > _PREVIEW_PX:
            raise ValueError(f"{preview} has more than {_PREVIEW_PX} px")
        picture.draft("RGB", (_WIDTH_PX, 1))  # decodes only as many pixels as the width needs
        small = picture.convert("RGB")
    small.thumbnail((_WIDTH_PX, _WIDTH_PX), Image.Resampling.BILINEAR)
    for quality in _QUALITIES:
        content = _encode(small, quality, comment)
        if len(content) <= MOST_BYTES:
            break
    return content


def comment_of(path: Path) -> bytes | None:
    """Read the comment of a picture; None if there is no picture, or it has none."""
    try:
        with open_regular(path) as file, Image.open(file, formats=("JPEG",)) as picture:
            comment = picture.info.get("comment")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return comment if isinstance(comment, bytes) else None


def _encode(picture: Image.Image, quality: int, comment: bytes) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, comment=comment)
    return file.getvalue()
