"""Links, pipes and devices among the files of a slide, which no run makes."""

import stat
from pathlib import Path

from noctile.workflows.results.layout import SlideFolder


def strange_kind(path: Path) -> str | None:
    """Return what a path is if it is a link, a pipe or a device; None if not, or if it is missing.

    A run that follows a link writes and deletes where it leads. A pipe holds up its reader.

    Raises:
        OSError: if the file system refuses.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(mode):
        return "is a link, which no run makes; it is not followed"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return "is a pipe or a device, not a file"


def strange_file(folder: SlideFolder) -> str | None:
    """Return what is wrong with the first link, pipe or device in a slide's folder.

    Files of the user do not matter.

    Returns:
        the name of the file and what it is; None if there is none.

    Raises:
        OSError: if the file system refuses.
    """
    trees = (folder.mask, folder.heat, folder.blocks)
    deep = (path for tree in trees if not tree.is_symlink() for path in tree.rglob("*"))
    for path in (*folder.required, folder.roi, folder.checksums, folder.blocks, *deep):
        if what := strange_kind(path):
            return f"{path.relative_to(folder.path).as_posix()} {what}"
    return None
