"""Search of folders and globs for files by the ending of their names; links are followed."""

import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from noctile.pipeline.errors import UsageError
from noctile.pipeline.slides.links import real_path
from noctile.pipeline.slides.names import shown_path


@dataclass(frozen=True, slots=True)
class Problem:
    """Reason why a path is left out.

    Attributes:
        code: reason code of the path in the tables.
        message: cause and cure, for the user.
    """

    code: str
    message: str


class FileSearch:
    """Search for files whose names have one of some endings.

    The name of a link counts, not the name of its target. A real folder is searched once, and a
    link to a folder above it is not followed, so that circles end. A broken link, and a file or
    folder that cannot be read, do not end the search.

    Args:
        suffixes: endings of file names, in lower case.

    Attributes:
        problems: reason why each path was not followed or taken, in the order of the search.
    """

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self.problems: dict[Path, Problem] = {}
        self._suffixes = suffixes

    def files(self, path: Path, glob_suffixes: tuple[str, ...] = ()) -> list[Path]:
        """Find the files below a folder, or those that a glob matches and those in its folders.

        Hidden files and folders are left out, unless the glob names hidden ones. The data folders
        of .mrxs files are left out.

        Args:
            path: folder or glob.
            glob_suffixes: further endings, for the files that a glob itself matches.

        Returns:
            paths in any order.

        Raises:
            UsageError: if ``**`` stands beside other letters in a glob, or a name has a zero byte.
        """
        if path.is_dir():
            return list(self._below(path))
        is_companion = cache(_is_companion)
        modes = {
            hit: self._mode(hit)
            for hit in dict.fromkeys(self._glob(path))
            if not any(map(is_companion, [hit, *hit.parents]))
        }
        files = [
            hit
            for hit, mode in modes.items()
            if (self._ends(hit) or hit.suffix.lower() in glob_suffixes) and self._usable(hit, mode)
        ]
        folders = [
            hit for hit, mode in modes.items() if stat.S_ISDIR(mode) and not self._is_circle(hit)
        ]
        return files + [file for folder in folders for file in self._below(folder)]

    def is_broken_link(self, path: Path) -> bool:
        """Test for a link without a file or folder at its end, and note it as a problem.

        Raises:
            OSError: if no file can have that name.
        """
        return path.is_symlink() and not self._mode(path)

    def _below(self, top: Path) -> Iterator[Path]:
        """Matching files of a folder and its subfolders."""
        for folder, entries in self._folders(top, hidden=False):
            for entry in entries:
                path = folder / entry.name
                if self._ends(path) and self._usable(path, self._mode(path)):
                    yield path

    def _folders(self, top: Path, hidden: bool) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
        """Folder and its subfolders with their entries, each real folder once."""
        if not stat.S_ISDIR(self._mode(top)):
            return
        seen = {real_path(top)}
        waiting = [(top, real_path(top))]
        while waiting:
            folder, target = waiting.pop()
            entries = self._entries(folder, hidden)
            yield folder, entries
            waiting += reversed(list(self._new_folders(folder, target, entries, seen)))

    def _new_folders(
        self, folder: Path, target: Path, entries: list[os.DirEntry[str]], seen: set[Path]
    ) -> Iterator[tuple[Path, Path]]:
        """Paths and targets of the subfolders to search next."""
        for entry in entries:
            path = folder / entry.name
            if not self._is_folder(entry, path) or _is_companion(path):
                continue
            end = real_path(path) if entry.is_symlink() else target / entry.name
            if not self._is_circle(path) and end not in seen:
                seen.add(end)
                yield path, end

    def _is_circle(self, path: Path) -> bool:
        """Test for a link to a folder that holds it, and note it as a problem."""
        if not path.is_symlink() or not real_path(path.parent).is_relative_to(real_path(path)):
            return False
        self.problems[path] = Problem(
            "circular_link",
            f"the link leads back to {shown_path(real_path(path))}, a folder above it. Name that "
            "folder to read all its slides",
        )
        return True

    def _entries(self, folder: Path, hidden: bool) -> list[os.DirEntry[str]]:
        """Entries of a folder by name, links last; none if there is no such folder."""
        try:
            with os.scandir(folder) as found:
                entries = [entry for entry in found if hidden or not entry.name.startswith(".")]
                return sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self.problems[folder] = Problem(
                "no_access",
                f"the folder cannot be searched: {error.strerror}. Fix its permissions and run "
                "again, or ignore this if it holds no slides",
            )
        return []

    def _glob(self, pattern: Path) -> Iterator[Path]:
        """Paths that a glob matches, some of them more than once."""
        parts = pattern.parts
        first = next((k for k, part in enumerate(parts) if glob.has_magic(part)), None)
        if first is None:
            return
        if any("**" in part and part != "**" for part in parts):
            raise UsageError(
                f"{str(pattern)!r:.200} cannot be searched for: '**' must stand alone between "
                "slashes, for instance '**/*.svs'"
            )
        hidden = any(part.startswith(".") for part in parts[first:])
        try:
            yield from self._expand(Path(*parts[:first]), parts[first:], hidden)
        except ValueError as error:  # a zero byte
            raise UsageError(f"{str(pattern)!r} cannot be searched for: {error}") from error

    def _expand(self, root: Path, parts: tuple[str, ...], hidden: bool) -> Iterator[Path]:
        """Paths below a folder that match the parts of a glob."""
        if not parts:
            yield root
            return
        head, rest = parts[0], parts[1:]
        for path in self._matches(root, head, hidden):
            yield from self._expand(path, rest, hidden)

    def _matches(self, root: Path, part: str, hidden: bool) -> Iterator[Path]:
        """Paths that one part of a glob matches in a folder; ``**`` matches all its folders."""
        if part == "**":
            yield from (folder for folder, _ in self._folders(root, hidden))
            return
        if glob.has_magic(part):
            names = [entry.name for entry in self._entries(root, hidden)]
            paths = [root / name for name in fnmatch.filter(names, part)]
        else:
            paths = [root / part] if os.path.lexists(root / part) else []
        yield from (path for path in paths if not self.is_broken_link(path))

    def _ends(self, path: Path) -> bool:
        return path.suffix.lower() in self._suffixes

    def _is_folder(self, entry: os.DirEntry[str], path: Path) -> bool:
        """Test for a folder or a link to one; a link that is broken is noted as a problem."""
        if entry.is_symlink():
            return stat.S_ISDIR(self._mode(path))
        try:
            return entry.is_dir()
        except OSError as error:
            self.problems[path] = _why_lost(path, error)
            return False

    def _usable(self, path: Path, mode: int) -> bool:
        """Tell if a path is a readable file; all others but folders are noted as problems."""
        if stat.S_ISREG(mode) and os.access(path, os.R_OK):
            return True
        if stat.S_ISREG(mode):
            self.problems[path] = Problem(
                "no_access", "the file cannot be read: Permission denied. Fix its permissions"
            )
        elif mode and not stat.S_ISDIR(mode):
            self.problems[path] = Problem("no_file", "it is a pipe, a socket or a device")
        return False

    def _mode(self, path: Path) -> int:
        """Mode bits of the file at the end of a path; 0, and a problem, if there is none."""
        try:
            return path.stat().st_mode
        except OSError as error:
            self.problems[path] = _why_lost(path, error)
            return 0


def _why_lost(path: Path, error: OSError) -> Problem:
    """Reason why a path in a folder cannot be reached."""
    if error.errno == errno.ELOOP:
        return Problem("circular_link", "the link leads back to itself. Correct or remove the link")
    if path.is_symlink() and error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return Problem(
            "broken_link",
            f"the link leads to {shown_path(real_path(path))}, which does not exist. Correct or "
            "remove the link",
        )
    return Problem("no_access", f"{error.strerror}. Make it readable, or move it elsewhere")


def _is_companion(folder: Path) -> bool:
    """Test for a folder, or a link to one, that holds the data of the .mrxs file beside it."""
    folders = [folder, real_path(folder)] if folder.is_symlink() else [folder]
    return any(
        os.path.isfile(f"{folder}{suffix}")  # noqa: PTH113 - false where access is denied
        for folder in folders
        if folder.name
        for suffix in (".mrxs", ".MRXS")
    )
