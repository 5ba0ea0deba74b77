from noctile.workflows.jobs.steps import Step


def test_every_step_has_a_key_of_its_own():
    steps = [
        Step("prepare", "a"),
        Step("segment", "a", (0, 1)),
        Step("segment", "a", (1, 0)),
        Step("finish", "a"),
        Step("finish", "b"),
    ]
    assert [step.key for step in steps] == [
        "prepare/a",
        "segment/a/0/1",
        "segment/a/1/0",
        "finish/a",
        "finish/b",
    ]
