from hypothesis import given
from hypothesis import strategies as st

from noctile.workflows.jobs.steps import Step
from noctile.workflows.run.schedule import Schedule


def test_a_slide_that_begins_again_waits_for_its_steps_under_way_and_comes_last():
    schedule = Schedule(["a", "b"])
    assert schedule.next_step() == Step("prepare", "a")
    schedule.prepared("a", [(0, 0), (0, 1), (0, 2)])
    assert schedule.next_step() == Step("prepare", "b")
    schedule.prepared("b", [])
    assert schedule.next_step() == Step("finish", "b")
    assert schedule.next_step() == Step("segment", "a", (0, 0))
    assert schedule.next_step() == Step("segment", "a", (0, 1))
    schedule.begin_again("a")
    assert schedule.begins_again("a")
    assert schedule.next_step() is None
    schedule.segmented("a")
    assert not schedule.begins_again("a")
    assert schedule.next_step() == Step("prepare", "a")


archives = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.integers(0, 5), max_size=12
)


def play(
    data: st.DataObject, blocks: dict[str, int], slots: int, ahead: int = 2, in_flight: int = 4
):
    """Run a schedule with `slots` steps at once, which end in any order and may fail.

    Returns the end of each step.
    """
    schedule = Schedule(blocks, ahead=ahead, in_flight=in_flight)
    running: list[Step] = []
    done, failed, steps, begun = [], set(), [], []
    while True:
        while len(running) < slots and (step := schedule.next_step()):
            running.append(step)
            steps.append(step)
        if not running:
            return done, failed, steps, schedule
        begun.append(len({s.slide_id for s in steps} - set(done) - failed))
        assert begun[-1] <= in_flight + len(failed)
        step = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if data.draw(st.integers(0, 9)) == 0:
            if schedule.failed(step.slide_id):
                failed.add(step.slide_id)
        elif step.kind == "prepare":
            schedule.prepared(step.slide_id, [(0, i) for i in range(blocks[step.slide_id])])
        elif step.kind == "segment":
            schedule.segmented(step.slide_id)
        else:
            schedule.finished(step.slide_id)
            done.append(step.slide_id)


class TestAnyArchive:
    @given(st.data(), archives, st.integers(1, 5))
    def test_every_slide_ends_once_done_or_failed(self, data, blocks, slots):
        done, failed, _, _ = play(data, blocks, slots)
        assert sorted([*done, *failed]) == sorted(blocks)

    @given(st.data(), archives, st.integers(1, 5))
    def test_no_step_runs_twice_and_a_done_slide_had_all_its_blocks(self, data, blocks, slots):
        done, _, steps, _ = play(data, blocks, slots)
        assert len({s.key for s in steps}) == len(steps)
        for slide_id in done:
            assert (
                sum(s.kind == "segment" and s.slide_id == slide_id for s in steps)
                == blocks[slide_id]
            )

    @given(st.data(), archives, st.integers(1, 5))
    def test_finish_comes_after_all_blocks_and_blocks_after_prepare(self, data, blocks, slots):
        _, _, steps, _ = play(data, blocks, slots)
        for slide_id in blocks:
            kinds = [s.kind for s in steps if s.slide_id == slide_id]
            assert kinds == sorted(kinds, key=["prepare", "segment", "finish"].index)


def drain(schedule: Schedule) -> list[Step]:
    steps = []
    while step := schedule.next_step():
        steps.append(step)
    return steps


class TestOrder:
    def test_two_slides_are_prepared_before_blocks_are_started(self):
        schedule = Schedule("abcdef")
        for _ in range(2):
            schedule.next_step()
        schedule.prepared("a", [(0, 0), (0, 1)])
        schedule.prepared("b", [(0, 0), (0, 1)])
        assert [s.key for s in drain(schedule)][:2] == ["segment/a/0/0", "segment/a/0/1"]

    def test_slides_that_hang_in_their_preparation_hold_up_no_other(self):
        schedule = Schedule("abcdefgh", ahead=2, in_flight=6)
        assert [s.slide_id for s in drain(schedule)] == list("abcdef")
        schedule.prepared("f", [(0, 0)])
        assert [s.key for s in drain(schedule)] == ["segment/f/0/0"]
        schedule.segmented("f")
        assert [s.key for s in drain(schedule)] == ["finish/f"]
        schedule.finished("f")
        assert [s.key for s in drain(schedule)] == ["prepare/g"]

    def test_the_oldest_slide_comes_first(self):
        schedule = Schedule("ab")
        drain(schedule)
        schedule.prepared("b", [(0, 0)])
        schedule.prepared("a", [(0, 0), (0, 1)])
        assert [s.key for s in drain(schedule)] == [
            "segment/a/0/0",
            "segment/a/0/1",
            "segment/b/0/0",
        ]

    def test_a_slide_without_blocks_is_finished_at_once(self):
        schedule = Schedule("a")
        drain(schedule)
        schedule.prepared("a", [])
        assert drain(schedule) == [Step("finish", "a")]

    def test_a_slide_that_is_complete_takes_no_further_step(self):
        schedule = Schedule("a")
        drain(schedule)
        schedule.prepared("a", [], finished=True)
        assert drain(schedule) == []

    def test_the_next_slide_is_prepared_while_the_last_blocks_run(self):
        schedule = Schedule("abc", ahead=1, in_flight=2)
        schedule.next_step()
        schedule.prepared("a", [(0, 0)])
        assert [s.key for s in drain(schedule)] == ["segment/a/0/0", "prepare/b"]

    def test_a_failed_slide_drops_its_waiting_blocks_and_reports_once(self):
        schedule = Schedule("a")
        drain(schedule)
        schedule.prepared("a", [(0, i) for i in range(4)])
        first, second = schedule.next_step(), schedule.next_step()
        assert first is not None
        assert second is not None
        assert schedule.failed("a")
        assert not schedule.failed("a")
        assert drain(schedule) == []
