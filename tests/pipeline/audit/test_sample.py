from noctile.pipeline.audit.sample import UNREADABLE, UNSURE


def test_answers_without_a_class_are_no_numbers_of_classes():
    assert UNSURE < 0
    assert UNREADABLE < 0
    assert UNSURE != UNREADABLE
