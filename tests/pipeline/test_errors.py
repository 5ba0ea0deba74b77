"""The errors of Noctile: their codes."""

from noctile.pipeline import errors


def test_each_error_of_a_slide_has_its_own_reason():
    kinds = errors.SlideError.__subclasses__()
    assert len({kind.reason for kind in [errors.SlideError, *kinds]}) == len(kinds) + 1 >= 7


def test_the_overview_names_each_error_with_its_reason():
    for kind in errors.SlideError.__subclasses__():
        assert f'{kind.__name__} reason "{kind.reason}"' in " ".join(errors.__doc__.split())
