"""Folders of files that are slides by name only, and calls of `find_slides`."""

from pathlib import Path

from noctile.pipeline.slides.discover import SlideEntry, find_slides


def make_archive(folder: Path) -> Path:
    """Write files that are slides by name only."""
    for name in (
        *(
            "b.svs",
            "a.TIFF",
            "notes.txt",
            ".hidden.svs",
            "sub/c.ndpi",
            "sub/deep/d.tif",
            ".cache/e.svs",
        ),
        *("m.mrxs", "m/Data0000.dat", "m/extra.tif", "odd.name"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def ids(entries: list[SlideEntry]) -> list[str]:
    """Ids of slides."""
    return [entry.slide_id for entry in entries]


def found(*arguments: str | Path) -> tuple[list[SlideEntry], list[str]]:
    """Slides of a call, and its lines about paths that are left out."""
    lines: list[str] = []
    return find_slides(arguments, None, None, warn=lines.append).slides, lines


def write_manifest(
    folder: Path, text: str, name: str = "manifest.csv", encoding: str = "utf-8"
) -> Path:
    """Write a manifest."""
    path = folder / name
    path.write_text(text, encoding=encoding)
    return path
