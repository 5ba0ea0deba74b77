from datetime import datetime, timedelta

import pytest

from noctile.workflows.quantities import next_moment

NOW = datetime(2026, 11, 23, 22, 15).astimezone()


def test_a_time_of_day_is_the_next_one():
    assert next_moment("07:00", NOW) == datetime(2026, 11, 24, 7).astimezone()
    assert next_moment("22:16", NOW) - NOW == timedelta(minutes=1)
    assert next_moment("22:15", NOW) - NOW == timedelta(days=1)


def test_a_date_with_time_is_that_one_be_it_past():
    assert next_moment("2026-11-23T22:14", NOW) == NOW - timedelta(minutes=1)
    assert next_moment("2026-11-24T06:00:00+00:00", NOW).timestamp() == 1795500000


@pytest.mark.parametrize("text", ["", "7", "noon", "24:30", "2026-13-01T00:00"])
def test_anything_else_says_what_to_write(text):
    with pytest.raises(ValueError, match="write a time such as 07:00"):
        next_moment(text, NOW)
