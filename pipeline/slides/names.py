"""Rules for slide ids, which name folders, and for paths, which tables and terminals show."""

import itertools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

MAX_ID_BYTES = 128
"""Longest slide_id (UTF-8): file systems allow 255 bytes, and results append to it."""

_RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789\u00b9\u00b2\u00b3"),
}
"""Names of devices on Windows, also with a suffix behind a dot. (learn.microsoft.com, Naming Files,
Paths, and Namespaces)"""


def slide_id_problem(slide_id: str) -> str | None:
    """Name the reason for which a slide_id cannot name a folder; None if it can."""
    if slide_id.startswith("."):
        return "it begins with a dot"
    if re.search(r'[/\\<>:"|?*\x00-\x1f\x7f]', slide_id):
        return 'it has a control character or one of / \\ < > : " | ? *'
    if not slide_id.isprintable():
        return "it has a character that cannot be printed"
    if len(slide_id.encode()) > MAX_ID_BYTES:
        return f"it is longer than {MAX_ID_BYTES} bytes"
    if slide_id.endswith(".") or slide_id.partition(".")[0].rstrip().upper() in _RESERVED:
        return "Windows does not allow it: it ends with a dot, or names a device there"
    padded = slide_id.strip() != slide_id or not slide_id
    return "it is empty, or begins or ends with a space" if padded else None


def path_problem(path: str) -> str | None:
    """Name the reason for which a path cannot stand in a table or on a terminal; None if it can."""
    kinds = {unicodedata.category(char) for char in path if char != "\t"}
    if "Cs" in kinds:
        return "is not UTF-8"
    return "has a control character or a line break" if kinds & {"Cc", "Zl", "Zp"} else None


def fold_name(name: str) -> str:
    """Convert a name to a form that is equal for names that some file system treats as equal.

    These differ in upper and lower case, or in composed and decomposed letters.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def shown_path(path: object) -> str:
    """Path as text for tables and messages.

    Characters that break lines, control a terminal or are not UTF-8 are escaped.
    """
    text = str(path)
    if not path_problem(text):
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if path_problem(char) else char
        for char in text
    )


def safe_id(name: str) -> str:
    """Convert a name to a slide_id that can name a folder; a name that can is not changed."""
    if not slide_id_problem(name):
        return name
    kept = re.sub(r"[^\w+=@ -]", "_", name).strip("_ ")  # no dots: nul.a is a device on Windows
    short = _shortened(kept, MAX_ID_BYTES)
    if not short:
        return "slide"
    return f"slide_{short}" if slide_id_problem(short) else short


def longer_ids(slide_id: str, path: PurePath) -> Iterator[str]:
    """Yield further ids for a slide whose id is taken; there is no last one.

    The first ids have the names of the slide's folders in front: ``P1_HE``, then ``site_P1_HE``.
    Ids with a number follow: ``HE_2``.

    Args:
        slide_id: id that is taken. If it begins with names of the slide's folders, so do all ids.
        path: absolute path of the slide.
    """
    prefixed = _with_folders(safe_id(path.stem), path)
    if slide_id not in prefixed:
        prefixed = _with_folders(slide_id, path)
    yield from prefixed[prefixed.index(slide_id) + 1 :]
    yield from _numbered(slide_id)


def unique_ids(paths: Iterable[Path], taken: Iterable[str]) -> dict[Path, str]:
    """Ids of slides from their file names, unique ignoring case.

    Equal file names in several folders get the names of their folders in front, as many as make
    them unique: ``P1_HE`` and ``P2_HE``. Equal names in one folder get numbers: ``HE``, ``HE_2``.
    The order of the paths changes nothing.

    Args:
        paths: absolute paths of the slides, each once.
        taken: ids of other slides.
    """
    choices = {path: _with_folders(safe_id(path.stem), path) for path in sorted(paths)}
    folders = {path: str(path.parent) for path in choices}
    used = {fold_name(slide_id) for slide_id in taken}
    while True:
        users: defaultdict[str, set[str]] = defaultdict(set, {name: {"", " "} for name in used})
        for path, ids in choices.items():
            users[fold_name(ids[0])].add(folders[path])
        clash = [
            ids for ids in choices.values() if len(users[fold_name(ids[0])]) > 1 and len(ids) > 1
        ]
        if not clash:
            break
        for ids in clash:
            ids.pop(0)
    return _number({path: ids[0] for path, ids in choices.items()}, used)


def _number(ids: dict[Path, str], used: set[str]) -> dict[Path, str]:
    """Add numbers to equal ids, in the order of the paths, but not to the first of them."""
    reserved, unique = {fold_name(slide_id) for slide_id in ids.values()}, {}
    for path, slide_id in ids.items():
        free = slide_id
        if fold_name(slide_id) in used:
            free = next(n for n in _numbered(slide_id) if fold_name(n) not in used | reserved)
        used.add(fold_name(free))
        unique[path] = free
    return unique


def _numbered(slide_id: str) -> Iterator[str]:
    """Yield the id with the numbers from 2 behind it; there is no last one."""
    for number in itertools.count(2):
        yield f"{_shortened(slide_id, MAX_ID_BYTES - len(f'_{number}'))}_{number}"


def _with_folders(slide_id: str, path: PurePath) -> list[str]:
    """List the id, and the id with the names of one, two and more folders in front."""
    folders = [safe_id(name) for name in reversed(path.parent.parts) if name != path.anchor]
    longer = itertools.accumulate([slide_id, *folders], lambda name, folder: f"{folder}_{name}")
    return [name for name in longer if name == slide_id or not slide_id_problem(name)]


def _shortened(name: str, most_bytes: int) -> str:
    """First characters of a name that take at most a number of bytes in UTF-8."""
    return name.encode()[:most_bytes].decode(errors="ignore").strip()
