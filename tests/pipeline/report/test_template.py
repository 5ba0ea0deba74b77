"""Templates of pages."""

import jinja2
import pytest

from noctile.pipeline.report.template import figure, load_template


@pytest.mark.parametrize("name", ["base.html", "diff.html", "evaluation.html", "index.html"])
def test_every_page_escapes_what_it_is_given(name):
    names = ["share", "percent", "count", "figure", "listed", "remedy", "meaning"]
    environment = load_template(name, **dict.fromkeys(names, str)).environment
    assert environment.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ unknown }}").render()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (float("inf"), "–"), (-0.0001, "0.000"), (1.2345, "1.234")],
)
def test_a_figure_has_fixed_digits(value, text):
    assert figure(value) == text
