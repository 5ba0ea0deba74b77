"""Ids of slides over the calls of a results folder."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.slides.discover import LeftOut, SlideEntry
from noctile.pipeline.slides.fingerprint import file_state
from noctile.pipeline.slides.identity import (
    ID_TAKEN,
    KnownSlide,
    Settled,
    settle_ids,
    settle_left_out,
)
from noctile.pipeline.slides.names import fold_name, slide_id_problem

CONTENTS = {
    "/old/P1/HE.svs": "one",
    "/new/P1/HE.svs": "one",
    "/new/P1/renamed.svs": "one",
    "/new/P2/HE.svs": "two",
    "/new/P3/HE.svs": "three",
}
"""Content of each file that can be read."""


def entry(path: str, slide_id: str = "", *, named: bool = False) -> SlideEntry:
    return SlideEntry(
        slide_id or Path(path).stem, Path(path), None, None, None, (), named or bool(slide_id)
    )


def known(**slides: tuple[str, str]) -> dict[str, KnownSlide]:
    return {i: KnownSlide(Path(path), content, 1, 1) for i, (path, content) in slides.items()}


def read_from(contents: dict[str, str]) -> Callable[[Path], str]:
    def read(path: Path) -> str:
        if str(path) not in contents:
            raise FileNotFoundError(path)
        return contents[str(path)]

    return read


def settle(entries: list[SlideEntry], slides: dict[str, KnownSlide]) -> Settled:
    return settle_ids(entries, slides, read_from(CONTENTS))


def ids(settled: Settled) -> dict[str, str]:
    return {str(e.path): e.slide_id for e in settled.entries}


class TestEntries:
    def test_a_new_folder_of_results_takes_all_ids_and_reads_nothing(self) -> None:
        def read(path: Path) -> str:
            pytest.fail(f"{path} was read")

        entries = [entry("/new/P1/HE.svs", "B"), entry("/new/P2/HE.svs", "A")]
        assert settle_ids(entries, {}, read).entries == entries[::-1]
        resumed = {e.slide_id: KnownSlide(e.path, "one", 1, 1) for e in entries}
        assert settle_ids(entries, resumed, read).entries == entries[::-1]

    def test_a_slide_keeps_its_id_at_its_path_with_another_content(self) -> None:
        settled = settle([entry("/new/P2/HE.svs")], known(S2=("/new/P2/HE.svs", "earlier")))
        assert ids(settled) == {"/new/P2/HE.svs": "S2"}

    def test_ids_follow_their_slides_if_files_swap_names_or_another_file_takes_a_path(
        self, tmp_path: Path
    ) -> None:
        a, b, c = (tmp_path / f"{name}.svs" for name in "abc")
        for path, text in ((a, "one"), (b, "two"), (c, "three")):
            path.write_text(text)
        states = {p: file_state(p) for p in (a, b)}
        slides = {p.stem: KnownSlide(p, p.read_text(), *states[p]) for p in (a, b)}
        a.rename(tmp_path / "x.svs")
        b.rename(a)
        (tmp_path / "x.svs").rename(b)

        def settled(*paths: Path) -> dict[str, str]:
            return ids(settle_ids(map(entry, map(str, paths)), slides, Path.read_text))

        assert settled(a, b) == {str(a): "b", str(b): "a"}
        b.rename(tmp_path / "moved.svs")
        c.rename(b)
        found = settled(a, b, tmp_path / "moved.svs")
        assert (found[str(a)], found[str(tmp_path / "moved.svs")]) == ("b", "a")
        assert found[str(b)] not in ("a", "b")

    def test_of_two_ids_at_one_path_the_file_there_has_the_one_with_its_size_and_time(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "b.svs"
        path.write_text("two")
        slides = {
            "HE": KnownSlide(path, "one", 9, 9),
            "b": KnownSlide(path, "two", *file_state(path)),
        }
        assert ids(settle_ids([entry(str(path), "HE")], slides, Path.read_text)) == {str(path): "b"}
        moved = tmp_path / "moved.svs"
        moved.write_text("one")
        found = settle_ids([entry(str(path)), entry(str(moved))], slides, Path.read_text)
        assert ids(found) == {str(path): "b", str(moved): "HE"}

    def test_a_file_whose_time_changed_alone_keeps_its_id_beside_its_copy(
        self, tmp_path: Path
    ) -> None:
        one, copy = tmp_path / "one.svs", tmp_path / "copy.svs"
        for path in (one, copy):
            path.write_text("same")
        slides = {"S": KnownSlide(one, "same", 4, 1)}
        settled = settle_ids([entry(str(copy)), entry(str(one))], slides, Path.read_text)
        assert ids(settled) == {str(one): "S", str(copy): "copy"}

    def test_a_link_to_a_known_file_is_the_known_slide(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").touch()
        (tmp_path / "link.svs").symlink_to("a.svs")
        slides = known(a=(str(tmp_path / "a.svs"), "x"))
        assert ids(settle([entry(str(tmp_path / "link.svs"))], slides)).popitem()[1] == "a"

    @pytest.mark.parametrize("path", ["/new/P1/HE.svs", "/new/P1/renamed.svs"])
    def test_a_moved_or_renamed_slide_keeps_its_id(self, path: str) -> None:
        settled = settle([entry(path)], known(S1=("/old/P1/HE.svs", "one")))
        assert ids(settled) == {path: "S1"}
        assert settled.fingerprints == {"S1": "one"}
        assert settled.warnings == []

    def test_a_copy_beside_a_known_slide_of_the_call_is_another_slide(self) -> None:
        paths = ["/old/P1/HE.svs", "/new/P1/HE.svs"]
        entries = [entry(paths[0], "HE"), entry(paths[1], "P1_HE")]
        assert ids(settle(entries, known(HE=(paths[0], "one")))) == dict(
            zip(paths, ["HE", "P1_HE"], strict=True)
        )

    @pytest.mark.parametrize("path", ["/old/P1/HE.svs", "/new/P1/HE.svs"])
    def test_an_id_that_stands_wins_over_the_manifest_with_a_warning(self, path: str) -> None:
        settled = settle([entry(path, "M1")], known(S1=("/old/P1/HE.svs", "one")))
        assert ids(settled) == {path: "S1"}
        (line,) = settled.warnings
        assert "S1" in line
        assert "M1 of the manifest is not used" in line

    def test_a_taken_stem_gets_the_names_of_folders_in_front(self) -> None:
        slides = known(HE=("/old/P1/HE.svs", "one"))
        assert ids(settle([entry("/new/P2/HE.svs")], slides)) == {"/new/P2/HE.svs": "P2_HE"}
        slides |= known(p2_he=("/elsewhere/a.svs", "x"))
        assert ids(settle([entry("/new/P2/HE.svs")], slides)) == {"/new/P2/HE.svs": "new_P2_HE"}
        slides |= known(new_P2_HE=("/elsewhere/b.svs", "y"))
        assert ids(settle([entry("/new/P2/HE.svs")], slides)) == {"/new/P2/HE.svs": "HE_2"}

    def test_a_slide_that_cannot_be_read_gets_a_free_id_and_fails_by_itself(self) -> None:
        settled = settle([entry("/gone/HE.svs", "HE")], known(HE=("/old/P1/HE.svs", "one")))
        assert ids(settled) == {"/gone/HE.svs": "gone_HE"}

    def test_a_corrected_path_of_the_manifest_takes_the_id_that_was_never_read(self) -> None:
        slides = known(S1=("/typo/HE.svs", ""), HE=("/typo/HE.svs", ""))
        settled = settle([entry("/new/P1/HE.svs", "S1"), entry("/new/P2/HE.svs")], slides)
        assert ids(settled) == {"/new/P1/HE.svs": "S1", "/new/P2/HE.svs": "P2_HE"}


class TestRefused:
    def test_an_id_of_the_manifest_that_means_other_content_is_refused(self) -> None:
        settled = settle(
            [entry("/new/P2/HE.svs", "S1"), entry("/new/P3/HE.svs")],
            known(S1=("/old/P1/HE.svs", "one")),
        )
        assert ids(settled) == {"/new/P3/HE.svs": "HE"}
        (refused,) = settled.refused
        assert (refused.entry.slide_id, refused.reason) == ("P2_S1", ID_TAKEN)
        assert "S1 belongs to /old/P1/HE.svs" in refused.message
        assert "another slide_id in the manifest" in refused.message


class TestLeftOut:
    def test_a_path_that_is_left_out_takes_the_id_of_no_other_slide(self) -> None:
        slides = known(HE=("/old/P1/HE.svs", "one"), gone=("/old/gone.svs", ""))
        left_out = [
            LeftOut("HE", "/new/P5/HE.svs", "broken_link: x"),
            LeftOut("gone", "/old/gone.svs", "broken_link: x"),
            LeftOut("CD", "/new/P5/CD.svs", "broken_link: x"),
            LeftOut("a", "/new/P5/a.svs", "broken_link: x"),
        ]
        expected = {"P5_HE": "HE.svs", "gone": "gone.svs", "CD": "CD.svs", "P5_a": "a.svs"}
        for order in (left_out, left_out[::-1]):
            settled = settle_left_out(order, slides, ["A", "other"])
            assert {one.slide_id: Path(one.path).name for one in settled} == expected
        assert settle_left_out(settled, slides, ["A", "other"]) == settled


PATHS = [f"/{folder}/{name}.svs" for folder in ("a", "b", "c/a") for name in ("HE", "he", "x")]
IDS = ["HE", "x", "a_HE", "b_he", "HE_2", "new"]
FILES = st.sampled_from(PATHS)
CALLS = st.lists(
    st.tuples(FILES, st.sampled_from(IDS), st.booleans()),
    max_size=6,
    unique_by=(lambda item: item[0], lambda item: fold_name(item[1])),
)
KNOWN = st.dictionaries(
    st.sampled_from(IDS), st.tuples(FILES, st.sampled_from(["", "1", "2"])), max_size=5
)
FILE_CONTENTS = st.dictionaries(FILES, st.sampled_from(["1", "2", "3"]))


@given(CALLS, KNOWN, FILE_CONTENTS, st.randoms(use_true_random=False))
def test_ids_are_unique_and_the_order_changes_nothing(
    call: list[tuple[str, str, bool]],
    slides: dict[str, tuple[str, str]],
    contents: dict[str, str],
    shuffle: random.Random,
) -> None:
    entries = [SlideEntry(i, Path(p), None, None, None, (), named) for p, i, named in call]
    settled = settle_ids(entries, known(**slides), read_from(contents))
    result = [*settled.entries, *(refused.entry for refused in settled.refused)]
    assert sorted(e.path for e in result) == sorted(e.path for e in entries)
    assert len({fold_name(e.slide_id) for e in result}) == len(entries)
    assert not any(slide_id_problem(e.slide_id) for e in result)

    mixed, mixed_known = list(entries), list(slides.items())
    shuffle.shuffle(mixed)
    shuffle.shuffle(mixed_known)
    assert settle_ids(mixed, known(**dict(mixed_known)), read_from(contents)) == settled


@given(CALLS, KNOWN, FILE_CONTENTS)
def test_a_known_id_goes_to_its_path_or_its_content_alone(
    call: list[tuple[str, str, bool]],
    slides: dict[str, tuple[str, str]],
    contents: dict[str, str],
) -> None:
    entries = [SlideEntry(i, Path(p), None, None, None, (), named) for p, i, named in call]
    settled = settle_ids(entries, known(**slides), read_from(contents))
    called = {str(e.path) for e in entries}
    for e in settled.entries:
        if e.slide_id in slides:
            path, content = slides[e.slide_id]
            same_path = path == str(e.path)
            another_is_there = [p for p, _ in slides.values()].count(path) > 1
            away = path not in called or another_is_there
            moved = content == contents.get(str(e.path)) and away
            assert same_path or moved or not content
    assert not {refused.entry.slide_id for refused in settled.refused} & set(slides)


@given(CALLS, KNOWN, FILE_CONTENTS)
def test_the_same_call_again_gives_the_same_ids(
    call: list[tuple[str, str, bool]],
    slides: dict[str, tuple[str, str]],
    contents: dict[str, str],
) -> None:
    entries = [SlideEntry(i, Path(p), None, None, None, (), named) for p, i, named in call]
    settled = settle_ids(entries, known(**slides), read_from(contents))
    done = known(**slides) | {
        e.slide_id: KnownSlide(e.path, contents.get(str(e.path), ""), 1, 1) for e in settled.entries
    }
    again = settle_ids(entries, done, read_from(contents))
    assert ids(again).items() >= ids(settled).items()
