"""Wrong values of a user in plain words: what each must be, and what was found instead."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

MAX_FAULTS = 20
"""Most wrong values that an error names; a file can have a million."""

_FOUND_CHARS, _NAME_CHARS, _WORDS_CHARS = 80, 80, 500
"""Most characters of a value, of its name and of its fault that are shown."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table",
    "dataclass": "a table",
    "path": "a path",
    "finite": "a finite number",
    "none": "left out",
}
"""Words for a kind of value, by the first word of the type of pydantic's error."""

_KIND = re.compile(r"(\w+?)_(type|parsing|parsing_size|from_float|number|required)")
"""Types of pydantic's errors about the kind of a value."""

_LIMITS = {
    "greater_than": ("be more than {:g}", "gt"),
    "greater_than_equal": ("be {:g} or more", "ge"),
    "less_than": ("be less than {:g}", "lt"),
    "less_than_equal": ("be {:g} or less", "le"),
    "multiple_of": ("be a multiple of {:g}", "multiple_of"),
    "literal_error": ("be {}", "expected"),
    "too_short": ("have {} or more values", "min_length"),
    "too_long": ("have {} or fewer values", "max_length"),
    "string_too_long": ("have {} or fewer characters", "max_length"),
}
"""Words for a limit, and its name in the context, by the type of pydantic's error."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` with the known word that is most alike; "" if none is.

    A known word ``table.name`` is also compared by its name alone.
    """
    words = {short: full for full in known for short in (full.rpartition(".")[2], full)}
    near = get_close_matches(word[:_NAME_CHARS], list(words), 1)
    return f"; did you mean '{words[near[0]]}'?" if near else ""


def matching(pattern: str, words: str) -> Callable[[str], str]:
    """Return a check of a text against a pattern; its error has words instead of the pattern.

    Args:
        pattern: regular expression of the whole text.
        words: fault of any other text, such as ``must be auto or cpu``.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(words)
        return text

    return check


def faults_of(
    kind: "type[BaseModel]", error: "ValidationError", shown: Mapping[str, str] | None = None
) -> list[str]:
    """Return one line for each wrong value, such as ``device must be auto or cpu; found "gpu"``.

    Args:
        kind: class of the values.
        error: error of pydantic.
        shown: name for the reader, by the name of a value; another value keeps its name.
    """
    known = sorted(_names(kind.model_json_schema()))
    faults = list(_independent(error.errors(include_url=False)))
    lines = [_line(fault, known, shown or {}) for fault in faults[:MAX_FAULTS]]
    more = len(faults) - MAX_FAULTS
    return [*lines, *([f"and {more} more"] if more > 0 else [])]


def _independent(faults: Sequence[Any]) -> Iterator[Any]:
    """Leave out lists that are too short only because pydantic does not count wrong values."""
    inside = {fault["loc"][:n] for fault in faults for n in range(len(fault["loc"]))}
    return (f for f in faults if f["type"] != "too_short" or f["loc"] not in inside)


def _line(fault: Any, known: Iterable[str], shown: Mapping[str, str]) -> str:
    steps = [str(step) for step in fault["loc"]]
    name = ".".join(steps)
    if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        plain = ".".join(step for step in steps if not step.isdigit())
        near = did_you_mean(plain, [other for other in known if not plain.startswith(f"{other}.")])
        return f"{name:.{_NAME_CHARS}} is unknown{near}"
    words = f"{shown.get(name, name):.{_NAME_CHARS}} {_words(fault):.{_WORDS_CHARS}}".strip()
    several = isinstance(fault["input"], dict) and fault["type"] == "value_error"
    return words if several or fault["type"] == "missing" else f"{words}; found {_found(fault)}"


def _words(fault: Any) -> str:
    """Return the fault of a value, to be read after its name."""
    name, context = fault["type"], fault.get("ctx", {})
    if name == "missing":
        return "is missing"
    if name == "value_error":
        return str(context["error"])
    if name in _LIMITS:
        words, key = _LIMITS[name]
        return f"must {words.format(context[key])}"
    if (word := _KIND.match(name)) and word[1] in _KINDS:
        return f"must be {_KINDS[word[1]]}"
    return f"cannot be used: {fault['msg']}"


def _found(fault: Any) -> str:
    value = fault["input"]
    if isinstance(value, dict):
        return "a table"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _FOUND_CHARS else f"{text[:_FOUND_CHARS]}..."


def _names(schema: Mapping[str, Any]) -> Iterator[str]:
    """Names of all values in a JSON schema; one inside a table is ``table.name``."""

    def inside(part: Any, prefix: str, depth: int) -> Iterator[str]:
        if isinstance(part, list):
            for item in part:
                yield from inside(item, prefix, depth)
        elif isinstance(part, dict) and depth < 3:
            definition = str(part.get("$ref", "")).rpartition("/")[2]
            yield from inside(schema.get("$defs", {}).get(definition), prefix, depth)
            for key in ("items", "anyOf", "allOf"):
                yield from inside(part.get(key), prefix, depth)
            for name, value in part.get("properties", {}).items():
                yield prefix + name
                yield from inside(value, f"{prefix}{name}.", depth + 1)

    return inside(schema, "", 0)
