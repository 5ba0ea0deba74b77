"""Identity of slides over the calls of a results folder: an id once given stays with its slide."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

from noctile.pipeline.slides.discover import LeftOut, SlideEntry
from noctile.pipeline.slides.fingerprint import file_state
from noctile.pipeline.slides.links import real_path
from noctile.pipeline.slides.names import fold_name, longer_ids

ID_TAKEN = "id_taken"
"""Reason code of a slide whose slide_id belongs to another slide."""

_UNKNOWN = -1, -1
"""Size and time of a file whose state is not known."""

_READERS = 8
"""Number of files that are fingerprinted at once. Most of that time is waiting for the storage."""


@dataclass(frozen=True, slots=True)
class KnownSlide:
    """One slide of a results folder, as the last call that named it recorded it.

    Attributes:
        path: absolute path of the slide.
        fingerprint: hash of the size and sampled content; "" if the slide has never been read.
        size: size of the file (B); -1 if it is not known.
        mtime_ns: modification time of the file (ns since 1970); -1 if it is not known.
    """

    path: Path
    fingerprint: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Refused:
    """One slide of a call that cannot have the slide_id of the manifest.

    Attributes:
        entry: the slide, under a free id with the names of its folders in front.
        reason: reason code, `ID_TAKEN`.
        message: cause and cure, for the user.
    """

    entry: SlideEntry
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Slides of a call under the ids that they have in the results folder.

    Attributes:
        entries: slides to work on, sorted by slide_id.
        refused: slides that must not be worked on, sorted by slide_id.
        warnings: one line for each slide that keeps its id although the manifest gives another.
        fingerprints: fingerprint of each slide that was read to find its id, by slide_id.
    """

    entries: list[SlideEntry]
    refused: list[Refused]
    warnings: list[str]
    fingerprints: dict[str, str]


def settle_ids(
    entries: Iterable[SlideEntry],
    known: Mapping[str, KnownSlide],
    fingerprint: Callable[[Path], str],
) -> Settled:
    """Give each slide of a call its id in a results folder.

    The first of these rules that fits decides:

    1. At the real path of a known slide, with unchanged size and time, it has that slide's id.
    2. With the content of a known slide it was moved or renamed, and has that slide's id.
    3. At the real path of a known slide it has a new content, and has that slide's id.
    4. Under the id of a known slide that was never read and is not in the call, given by the
       manifest, it has that id: the manifest was corrected.
    5. It has the id that it wants, if that is free. A taken id that was made from the path gets the
       names of more folders in front. A taken id that the manifest gives is refused if the slide
       can be read.

    The order of the entries changes nothing, and no known id is given twice.

    Args:
        entries: slides of the call, with the ids that they want; ids are unique ignoring case.
        known: slides of the results folder by slide_id, without those that were refused: they are
            to be refused again.
        fingerprint: reads the content of a slide; called in several threads, for slides at new
            paths and for changed files only, and only if a known slide that is not at its path has
            content.
    """
    matching = _Matching(entries, known)
    real = cache(real_path)
    _by_unchanged_path(matching, real)
    contents = _contents(matching, fingerprint)
    _by_content(matching, contents, real)
    _by_path(matching, lambda entry: real(entry.path), lambda slide: real(slide.path))
    matching.match(
        lambda entry: fold_name(entry.slide_id) if entry.named else None,
        lambda slide_id, slide: None if slide.fingerprint else fold_name(slide_id),
    )
    return _settled(matching, known, contents)


def settle_left_out(
    left_out: Iterable[LeftOut], known: Mapping[str, KnownSlide], taken: Iterable[str]
) -> list[LeftOut]:
    """Give each path that a call does not take its id in a results folder.

    A path of a known slide has that slide's id. Other paths have an id that no slide has, with the
    names of their folders in front where that is needed.

    Args:
        left_out: paths that the call does not take.
        known: slides of the results folder by slide_id.
        taken: settled ids of the slides of the call.
    """
    id_of = {str(slide.path): slide_id for slide_id, slide in sorted(known.items())}
    used = {fold_name(slide_id) for slide_id in (*known, *taken)}
    settled = []
    for one in sorted(left_out, key=lambda one: one.path):
        slide_id = id_of.get(one.path) or _free_id(one.slide_id, Path(one.path), used)
        settled.append(replace(one, slide_id=slide_id))
    return settled


class _Matching:
    """Matching of the slides of a call with known slides, one to one.

    Args:
        entries: slides of the call.
        known: slides of the results folder by slide_id.

    Attributes:
        entries: slides of the call, sorted by slide_id.
        known: known slides that may still be matched, sorted by slide_id.
        given: slide_id of the known slide for each slide of the call that was matched.
    """

    def __init__(self, entries: Iterable[SlideEntry], known: Mapping[str, KnownSlide]) -> None:
        self.entries = sorted(entries, key=lambda entry: entry.slide_id)
        self.known = dict(sorted(known.items()))
        self.given: dict[SlideEntry, str] = {}

    @property
    def waiting(self) -> list[SlideEntry]:
        """Slides of the call that were not matched yet."""
        return [entry for entry in self.entries if entry not in self.given]

    def match(
        self,
        entry_key: Callable[[SlideEntry], Hashable],
        known_key: Callable[[str, KnownSlide], Hashable],
    ) -> None:
        """Match the slides that have equal keys; the key None matches nothing."""
        ids: defaultdict[Hashable, deque[str]] = defaultdict(deque)
        for slide_id, slide in self.known.items():
            ids[known_key(slide_id, slide)].append(slide_id)
        ids.pop(None, None)
        for entry in self.waiting:
            if same := ids.get(entry_key(entry)):
                self.given[entry] = same.popleft()
                del self.known[self.given[entry]]


def _by_unchanged_path(matching: _Matching, real: Callable[[Path], Path]) -> None:
    """Match slides at the same real path whose size and time are as recorded, or not known."""
    state = cache(file_state)

    def known_state(slide: KnownSlide) -> tuple[int, int]:
        return slide.size, slide.mtime_ns

    _by_path(
        matching,
        lambda entry: (real(entry.path), state(entry.path)),
        lambda slide: (real(slide.path), known_state(slide)),
    )
    _by_path(
        matching,
        lambda entry: real(entry.path),
        lambda slide: real(slide.path) if known_state(slide) == _UNKNOWN else None,
    )
    _by_path(
        matching,
        lambda entry: real(entry.path) if state(entry.path) == _UNKNOWN else None,
        lambda slide: real(slide.path),
    )


def _by_path(
    matching: _Matching,
    entry_path: Callable[[SlideEntry], Hashable],
    known_path: Callable[[KnownSlide], Hashable],
) -> None:
    """Match slides with equal paths, those with the same id first; the path None matches nothing.

    Args:
        matching: slides to match.
        entry_path: path of a slide of the call, perhaps with its state.
        known_path: path of a known slide, perhaps with its state.
    """

    def with_id(path: Hashable, slide_id: str) -> Hashable:
        return None if path is None else (path, fold_name(slide_id))

    matching.match(
        lambda entry: with_id(entry_path(entry), entry.slide_id),
        lambda slide_id, slide: with_id(known_path(slide), slide_id),
    )
    matching.match(entry_path, lambda _, slide: known_path(slide))


def _by_content(
    matching: _Matching,
    contents: Mapping[SlideEntry, str | None],
    real: Callable[[Path], Path],
) -> None:
    """Match slides with the same content, those with the same path, id or file name first."""

    def match(
        entry_part: Callable[[SlideEntry], Hashable],
        known_part: Callable[[str, KnownSlide], Hashable],
    ) -> None:
        matching.match(
            lambda e: (contents[e], entry_part(e)) if contents.get(e) else None,
            lambda i, s: (s.fingerprint, known_part(i, s)) if s.fingerprint else None,
        )

    match(lambda e: real(e.path), lambda _, slide: real(slide.path))
    match(lambda e: fold_name(e.slide_id), lambda slide_id, _: fold_name(slide_id))
    match(lambda e: e.path.name, lambda _, slide: slide.path.name)
    match(lambda _: "", lambda *_: "")


def _contents(
    matching: _Matching, fingerprint: Callable[[Path], str]
) -> dict[SlideEntry, str | None]:
    """Fingerprint of each slide that waits, or None if it cannot be read.

    Nothing is read if no known slide has content.
    """
    if not any(slide.fingerprint for slide in matching.known.values()):
        return {}

    def read(entry: SlideEntry) -> str | None:
        try:
            return fingerprint(entry.path)
        except OSError:
            return None

    waiting = matching.waiting
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(waiting, readers.map(read, waiting), strict=True))


def _settled(
    matching: _Matching, known: Mapping[str, KnownSlide], contents: Mapping[SlideEntry, str | None]
) -> Settled:
    """Result of a matching; slides without a match have the id that they want, or a free one."""
    settled = Settled([], [], [], {})
    standing = {fold_name(slide_id): slide_id for slide_id in known}
    taken = {*standing, *(fold_name(entry.slide_id) for entry in matching.entries)}
    for entry in matching.entries:
        wanted, stands = entry.slide_id, standing.get(fold_name(entry.slide_id))
        final = matching.given.get(entry) or (
            _free_id(wanted, entry.path, taken) if stands else wanted
        )
        moved = replace(entry, slide_id=final)
        if entry in matching.given or not stands or not entry.named or _unread(entry, contents):
            settled.entries.append(moved)
        else:
            settled.refused.append(_refused(moved, stands, known[stands]))
        if entry in matching.given and entry.named and final != wanted:
            settled.warnings.append(_kept_id(entry, final))
        if content := contents.get(entry):
            settled.fingerprints[final] = content
    settled.entries.sort(key=lambda entry: entry.slide_id)
    settled.refused.sort(key=lambda refused: refused.entry.slide_id)
    return settled


def _unread(entry: SlideEntry, contents: Mapping[SlideEntry, str | None]) -> bool:
    """Tell if a slide could not be read; it fails later, with its own reason."""
    return contents.get(entry, "") is None


def _free_id(wanted: str, path: Path, taken: set[str]) -> str:
    """First id of a path that is not taken; it is taken from then on."""
    ids = chain([wanted], longer_ids(wanted, path))
    free = next(slide_id for slide_id in ids if fold_name(slide_id) not in taken)
    taken.add(fold_name(free))
    return free


def _refused(entry: SlideEntry, taken_id: str, owner: KnownSlide) -> Refused:
    message = (
        f"slide_id {taken_id} belongs to {owner.path} in these results, and {entry.path} has other "
        "content. Give this slide another slide_id in the manifest, or use another --out"
    )
    return Refused(entry, ID_TAKEN, message)


def _kept_id(entry: SlideEntry, slide_id: str) -> str:
    return (
        f"{entry.path} has results as {slide_id} and keeps this slide_id; {entry.slide_id} of the "
        "manifest is not used"
    )
