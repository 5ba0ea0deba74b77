from datetime import datetime, timedelta

import pytest

from noctile.workflows.quantities import next_moment

NOW = datetime(2026, 11, 23, 22, 15).astimezone()


def test_a_time_of_day_means_its_next_occurrence():
    assert next_moment("07:00", NOW) == datetime(2026, 11, 24, 7).astimezone()
    assert next_moment("22:16", NOW) - NOW == timedelta(minutes=1)
    assert next_moment("22:15", NOW) - NOW == timedelta(days=1)


def test_a_date_with_time_means_itself_even_if_it_is_past():
    assert next_moment("2026-11-23T22:14", NOW) == NOW - timedelta(minutes=1)
    assert next_moment("2026-11-24T06:00:00+00:00", NOW).timestamp() == 1795500000


@pytest.mark.parametrize("text", ["", "7", "noon", "24:30", "2026-13-01T00:00"])
def test_other_text_is_an_error_that_names_the_format(text):
    with pytest.raises(ValueError, match="must be a time such as 07:00"):
        next_moment(text, NOW)
