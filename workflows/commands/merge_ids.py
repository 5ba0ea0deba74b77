"""Ids of slides that come from one folder of results to another."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from noctile.pipeline.slides.names import fold_name, longer_ids

Action = Literal["copy", "stands", "refuse"]


@dataclass(frozen=True, slots=True)
class Content:
    """Slide of a folder of results.

    Attributes:
        path: path of its file; "" if it is not known.
        fingerprint: hash of the size and sampled content; "" if the file has never been read.
        made_by: model and settings that made its result; "" for a slide without a result.
        sha256: hash of all bytes of its file if ``--check-content full`` was given, else "".
    """

    path: str
    fingerprint: str
    made_by: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Slide that comes to a folder of results.

    Attributes:
        slide_id: its id in the folder that it comes from.
        final_id: its id in the folder that it comes to.
        action: ``copy`` if it is to be taken, ``stands`` if the folder has it already, ``refuse``
            if another model or other settings made the result that the folder has.
    """

    slide_id: str
    final_id: str
    action: Action


def made_by(summary: Mapping[str, Any]) -> str:
    """Text that is equal for results of the same model and settings.

    Settings are also the pixel size and the channel order that the user gave for a slide.

    Args:
        summary: summary of a finished slide; those of earlier versions have ``key`` alone.
    """
    if not summary.get("pixels_key"):
        return f"key {summary.get('key')}"
    given = {name: summary[name] for name in sorted(summary) if name.endswith("_given")}
    filled = (f"{name}={value}" for name, value in given.items() if value is not None)
    return " ".join((str(summary["pixels_key"]), *filled))


class MergedIds:
    """Ids of a folder of results to which slides of other folders come.

    A slide is recognised by its content, also if it was moved or renamed. Two slides with the same
    content in one folder stay two.

    Args:
        standing: slides of the folder by id.
        taken: further ids that are not free.
    """

    def __init__(self, standing: Mapping[str, Content], taken: Iterable[str] = ()) -> None:
        self._standing = dict(standing)
        self._taken = {fold_name(slide_id) for slide_id in (*standing, *taken)}

    def copy(self) -> "MergedIds":
        """Return a second object, which changes apart from this one."""
        other = MergedIds(self._standing)
        other._taken = set(self._taken)
        return other

    def arrive(self, slides: Mapping[str, Content], used: set[str]) -> list[Arrival]:
        """Give slides of one folder their ids, sorted by the ids that they had.

        Args:
            slides: slides of one folder by id, all with results or all without.
            used: ids that other slides of the same folder have got; it is updated.
        """
        matching = _Matching(self._standing, used)
        for slide_id, slide in sorted(slides.items()):
            matching.wanted[slide_id] = slide
        matching.by_content()
        matching.by_path()
        arrivals = [self._matched(slide_id, slides, matching) for slide_id in matching.given]
        # ids that are free as they are come first: no longer id may take one of them
        new = sorted(matching.wanted, key=lambda i: (fold_name(i) in self._taken, i))
        arrivals += [self._new(slide_id, slides[slide_id]) for slide_id in new]
        used |= {arrival.final_id for arrival in arrivals}
        return sorted(arrivals, key=lambda arrival: arrival.slide_id)

    def withdraw(self, slide_id: str, before: Content | None) -> None:
        """Forget a slide that did not arrive after all.

        Args:
            slide_id: id that it was given.
            before: slide that had the id before; None for no slide.
        """
        del self._standing[slide_id]
        if before:
            self._standing[slide_id] = before
        else:
            self._taken.discard(fold_name(slide_id))

    def get(self, slide_id: str) -> Content | None:
        """Return the slide that has an id; None if no slide has it."""
        return self._standing.get(slide_id)

    def _matched(
        self, slide_id: str, slides: Mapping[str, Content], matching: "_Matching"
    ) -> Arrival:
        final_id, slide = matching.given[slide_id], slides[slide_id]
        stands = self._standing[final_id]
        if slide.made_by and not stands.made_by:
            self._standing[final_id] = slide
            return Arrival(slide_id, final_id, "copy")
        same = not slide.made_by or slide.made_by == stands.made_by
        return Arrival(slide_id, final_id, "stands" if same else "refuse")

    def _new(self, slide_id: str, slide: Content) -> Arrival:
        final_id = slide_id
        if fold_name(slide_id) in self._taken:
            ids = longer_ids(slide_id, PurePath(slide.path))
            final_id = next(i for i in ids if fold_name(i) not in self._taken)
        self._taken.add(fold_name(final_id))
        self._standing[final_id] = slide
        return Arrival(slide_id, final_id, "copy")


class _Matching:
    """Slides that come, each matched with one slide that stands at most.

    Args:
        standing: slides that stand, by id.
        used: ids that are not matched any more.

    Attributes:
        wanted: slides that are not matched yet, by id.
        given: id of the slide that stands for each slide that was matched.
    """

    def __init__(self, standing: Mapping[str, Content], used: set[str]) -> None:
        self._free = {i: slide for i, slide in sorted(standing.items()) if i not in used}
        self.wanted: dict[str, Content] = {}
        self.given: dict[str, str] = {}

    def by_content(self) -> None:
        """Match equal contents: those made alike first, then those with the same id or path."""
        for same in (_made_alike, _any):
            self._match(lambda i, s: (s.fingerprint, fold_name(i)) if s.fingerprint else None, same)
            self._match(lambda _, s: (s.fingerprint, "", s.path) if s.fingerprint else None, same)
            self._match(lambda _, s: s.fingerprint or None, same)

    def by_path(self) -> None:
        """Match equal paths where one of both slides has no result and no known content."""
        self._match(lambda _, s: s.path or None, _one_unread)

    def _match(
        self,
        key: Callable[[str, Content], Any],
        same: Callable[[Content, Content], bool],
    ) -> None:
        ids: dict[Any, list[str]] = {}
        for old_id, old in self._free.items():
            ids.setdefault(key(old_id, old), []).append(old_id)
        for new_id, new in list(self.wanted.items()):
            wanted = key(new_id, new)
            candidates = ids.get(wanted, []) if wanted is not None else []
            alike = (i for i in candidates if _same_bytes(new, self._free[i]))
            found = next((i for i in alike if same(new, self._free[i])), None)
            if found is not None:
                candidates.remove(found)
                self.given[new_id] = found
                del self._free[found], self.wanted[new_id]


def _same_bytes(new: Content, old: Content) -> bool:
    """False if all bytes of both files were read and differ."""
    return not (new.sha256 and old.sha256) or new.sha256 == old.sha256


def _made_alike(new: Content, old: Content) -> bool:
    return new.made_by == old.made_by


def _any(new: Content, old: Content) -> bool:
    del new, old
    return True


def _one_unread(new: Content, old: Content) -> bool:
    return not (new.fingerprint and old.fingerprint)
