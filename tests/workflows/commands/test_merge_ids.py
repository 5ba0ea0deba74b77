"""Ids of slides that come from one folder of results to another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noctile.pipeline.slides.names import fold_name
from noctile.workflows.commands.merge_ids import Arrival, Content, MergedIds, made_by


def done(content: str, path: str = "/p/x.svs", made: str = "model") -> Content:
    return Content(path, content, made)


def arrive(ids: MergedIds, **slides: Content) -> dict[str, tuple[str, str]]:
    return {a.slide_id: (a.final_id, a.action) for a in ids.arrive(slides, set())}


def test_a_slide_is_recognised_by_its_content():
    ids = MergedIds({"old": done("1")})
    assert arrive(ids, new=done("1", "/elsewhere.svs")) == {"new": ("old", "stands")}


def test_an_id_of_other_content_gets_the_folder_in_front():
    ids = MergedIds({"HE": done("1")})
    assert arrive(ids, HE=done("2", "/data/P1/HE.svs")) == {"HE": ("P1_HE", "copy")}
    assert arrive(ids, he=done("3", "")) == {"he": ("he_2", "copy")}


def test_a_longer_id_takes_no_id_of_the_same_folder():
    ids = MergedIds({"HE": done("1")})
    slides = {"HE": done("2", "/d/P1/HE.svs"), "P1_HE": done("3", "/d/P1_HE.svs")}
    found = {a.slide_id: a.final_id for a in ids.arrive(slides, set())}
    assert found == {"HE": "d_P1_HE", "P1_HE": "P1_HE"}


def test_the_same_content_by_another_model_is_refused():
    ids = MergedIds({"x": done("1", made="first")})
    assert arrive(ids, x=done("1", made="second")) == {"x": ("x", "refuse")}


def test_a_slide_without_a_result_gets_the_result_of_its_content_or_path():
    ids = MergedIds({"read": Content("/a", "1", ""), "unread": Content("/b", "", "")})
    slides = {"x": done("1", "/c"), "y": done("2", "/b")}
    assert arrive(ids, **slides) == {"x": ("read", "copy"), "y": ("unread", "copy")}
    assert arrive(ids, **slides) == {"x": ("read", "stands"), "y": ("unread", "stands")}


def test_a_path_alone_is_not_enough_where_both_contents_are_known():
    ids = MergedIds({"x": done("1", "/d/x.svs")})
    assert arrive(ids, x=done("2", "/d/x.svs")) == {"x": ("d_x", "copy")}


def test_files_that_differ_in_bytes_that_the_sample_does_not_hold_are_two_slides():
    ids = MergedIds({"x": Content("/d/x.svs", "1", "model", "aa")})
    assert arrive(ids, y=Content("/y", "1", "model", "bb")) == {"y": ("y", "copy")}
    assert arrive(ids, z=Content("/z", "1", "model", "")) == {"z": ("x", "stands")}


def test_two_slides_of_one_folder_with_the_same_content_stay_two():
    ids, slides = MergedIds({}), {"x": done("1", "/a"), "y": done("1", "/b")}
    assert arrive(ids, **slides) == {"x": ("x", "copy"), "y": ("y", "copy")}
    assert arrive(ids, **slides) == {"x": ("x", "stands"), "y": ("y", "stands")}


def test_slides_without_results_are_not_matched_with_those_that_arrived_with_them():
    ids, used = MergedIds({}), set[str]()
    ids.arrive({"x": done("1", "/a")}, used)
    assert ids.arrive({"y": Content("/a", "", "")}, used) == [Arrival("y", "y", "copy")]


def test_a_slide_that_does_not_arrive_leaves_its_id():
    ids = MergedIds({})
    arrive(ids, x=done("1"))
    ids.withdraw("x", None)
    assert arrive(ids, x=done("2")) == {"x": ("x", "copy")}
    before = Content("/a", "2", "")
    ids.withdraw("x", before)
    assert ids.copy().arrive({"z": done("2")}, set()) == [Arrival("z", "x", "copy")]
    assert ids.arrive({"z": done("2")}, set()) == [Arrival("z", "x", "copy")]


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        ({"pixels_key": "k", "mpp_given": [0.5, 0.5]}, "k mpp_given=[0.5, 0.5]"),
        ({"pixels_key": "k", "mpp_given": None}, "k"),
        ({"pixels_key": "k", "channel_order_given": "bgr"}, "k channel_order_given=bgr"),
        ({"key": "old"}, "key old"),
    ],
)
def test_results_are_made_alike_if_model_settings_and_mpp_are_the_same(summary, text):
    assert made_by(summary) == text


SLIDES = st.dictionaries(
    st.sampled_from(["HE", "he", "P1_HE", "x"]),
    st.builds(
        Content,
        st.sampled_from(["/d/P1/HE.svs", "/d/P2/HE.svs", ""]),
        st.sampled_from("123"),
        st.sampled_from("AB"),
    ),
)


@given(st.lists(SLIDES, max_size=4))
def test_every_content_has_one_place_and_a_second_merge_changes_nothing(folders):
    ids, holds = MergedIds({}), dict[str, Content]()
    for slides in folders:
        arrivals = ids.arrive(slides, set())
        assert [a.slide_id for a in arrivals] == sorted(slides)
        assert len({fold_name(a.final_id) for a in arrivals}) == len(slides)
        for arrival in arrivals:
            slide = slides[arrival.slide_id]
            if arrival.action == "copy":
                assert fold_name(arrival.final_id) not in map(fold_name, holds)
                holds[arrival.final_id] = slide
            stands = holds[arrival.final_id]
            assert stands.fingerprint == slide.fingerprint
            assert (stands.made_by == slide.made_by) == (arrival.action != "refuse")
    for slides in folders:
        assert all(a.action != "copy" for a in ids.arrive(slides, set()))
