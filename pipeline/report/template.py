"""Templates of the pages, and the filters that they share."""

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def load_template(name: str, **filters: Callable[..., Any]) -> Template:
    """Load a template of this folder; it escapes every text, and an unknown name is an error.

    Args:
        name: name of the file.
        filters: filters of the template, by name.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)


def figure(value: float | None, digits: int = 3) -> str:
    """Number with some digits behind the point, never "-0.000"; a dash for none."""
    if value is None or not isfinite(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}"
