"""Parsers of manifests, cards, settings and annotations on random content.

Each content is read, or ends in a documented error.
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mutants import hunt
from benchmarks.small_slides import small_slides
from noctile.pipeline.errors import ModelError, UsageError
from noctile.pipeline.models.card import ModelCard
from noctile.pipeline.models.folder import find_model, read_card, read_config
from noctile.pipeline.models.threshold import ThresholdConfig
from noctile.pipeline.regroup import regrouping
from noctile.pipeline.slides.discover import find_slides
from noctile.pipeline.slides.names import slide_id_problem
from noctile.pipeline.truth.geojson import read_annotations, region_boxes
from noctile.pipeline.truth.scheme import BUILT_IN, ClassScheme, load_scheme
from noctile.workflows.commands.regroup import read_groups
from noctile.workflows.settings import RunSettings, load_settings

CARD = json.loads((find_model("tumor") / "card.json").read_text(encoding="utf-8"))

ODD_TEXT = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "-1", "nan", "1e999", "../x", "~", "=1", "\0", "a" * 300, "\ud800", "0x10", "1_0", "١"]
    ),
)
ODD = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        ODD_TEXT,
        st.sampled_from([10**400, -(2**63), 0]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=8,
)
"""Any JSON value, also values that are difficult for parsers."""

GROUPS = """rest = "keep"
[[classes]]
name = "x"
from = ["tumor", "dcis"]
color = [200, 30, 45]
role = "tumor"
code = 7
[tumor]
threshold = 0.5
above = "x"
below = "stroma"
"""

MANY = settings(max_examples=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parsers")


def either(read: Callable[[], Any], error: type[Exception]) -> Any:
    """Value that was read, or None after the documented error, whose text must be short."""
    try:
        return read()
    except error as refusal:
        words = str(refusal)
    assert 10 < len(words) < 6000
    return None


class TestManifests:
    HEADERS = (
        "slide_id",
        "path",
        "patient_id",
        "mpp",
        "mpp_y",
        "group",
        "wsi",
        "slide",
        "SLIDE_ID",
        "stain",
    )

    @staticmethod
    def check(file: Path) -> None:
        for entry in either(lambda: find_slides((), file, None).slides, UsageError) or ():
            assert slide_id_problem(entry.slide_id) is None
            assert entry.path.is_absolute()
            assert entry.mpp is None or min(entry.mpp) > 0

    @MANY
    @given(data=st.binary(max_size=200))
    def test_any_bytes(self, place: Path, data: bytes) -> None:
        (place / "m.csv").write_bytes(data)
        self.check(place / "m.csv")

    @MANY
    @given(
        headers=st.lists(st.sampled_from(HEADERS) | ODD_TEXT, max_size=5),
        rows=st.lists(
            st.lists(ODD_TEXT | st.just("a.svs") | st.just("0.25"), max_size=6), max_size=5
        ),
        delimiter=st.sampled_from(",;\t"),
    )
    def test_any_table(
        self, place: Path, headers: list[str], rows: list[list[str]], delimiter: str
    ) -> None:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows([headers, *rows])
        (place / "t.csv").write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
        self.check(place / "t.csv")

    @MANY
    @given(slide_ids=st.lists(ODD_TEXT, min_size=1, max_size=4))
    def test_any_slide_id_names_a_folder_or_is_refused(
        self, place: Path, slide_ids: list[str]
    ) -> None:
        out = io.StringIO()
        csv.writer(out).writerows(
            [["slide_id", "path"], *([one, f"{k}.svs"] for k, one in enumerate(slide_ids))]
        )
        (place / "i.csv").write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
        self.check(place / "i.csv")


def changed(value: Any, path: list[int], to: Any) -> Any:
    """Replace one value inside a JSON value; numbers select the path to it."""
    if not path or not isinstance(value, dict | list) or not value:
        return to
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[path[0] % len(keys)]
    new: Any = dict(value) if isinstance(value, dict) else list(value)
    new[key] = changed(value[key], path[1:], to)
    return new


class TestCards:
    @MANY
    @given(data=st.binary(max_size=200))
    def test_any_bytes(self, place: Path, data: bytes) -> None:
        for name in ("card.json", "config.json"):
            (place / name).write_bytes(data)
        either(lambda: read_card(place), ModelError)
        either(lambda: read_config(place), ModelError)

    @MANY
    @given(path=st.lists(st.integers(0, 20), min_size=1, max_size=4), to=ODD)
    def test_the_shipped_card_with_any_value_at_any_path(
        self, place: Path, path: list[int], to: Any
    ) -> None:
        (place / "card.json").write_text(
            json.dumps(changed(CARD, path, to)), "utf-8", "surrogatepass"
        )
        card = either(lambda: read_card(place), ModelError)
        assert card is None or isinstance(card, ModelCard)
        assert card is None or (0 < card.mpp <= 32 and card.overlap_px < card.tile_px)

    @MANY
    @given(
        values=st.dictionaries(
            st.sampled_from(["kind", "thresholds_od"]) | ODD_TEXT, ODD, max_size=3
        )
    )
    def test_any_config_of_a_model_without_a_network(self, values: dict[str, Any]) -> None:
        either(lambda: ThresholdConfig.model_validate(values), ValueError)


def toml(value: Any) -> str:
    """Format a value as TOML, or as something similar."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, int | float) else json.dumps(value)


class TestSettings:
    @MANY
    @given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_any_bytes(self, place: Path, data: bytes) -> None:
        (place / "s.toml").write_bytes(data)
        either(lambda: load_settings(place / "s.toml"), UsageError)
        either(lambda: load_scheme(str(place / "s.toml")), UsageError)

    @MANY
    @given(
        values=st.dictionaries(
            st.sampled_from(sorted(RunSettings.model_fields)), ODD, min_size=1, max_size=3
        )
    )
    def test_any_value_of_any_setting(self, place: Path, values: dict[str, Any]) -> None:
        lines = "\n".join(f"{key} = {toml(value)}" for key, value in values.items())
        (place / "v.toml").write_text(lines, "utf-8", "surrogatepass")
        found = either(lambda: load_settings(place / "v.toml"), UsageError)
        assert found is None or isinstance(found, RunSettings)

    @MANY
    @given(
        key=st.sampled_from(["name", "ignore", "classes", "code", "color", "role", "from"]), to=ODD
    )
    def test_a_class_scheme_with_any_value(self, place: Path, key: str, to: Any) -> None:
        lines = BUILT_IN["tumor"].to_toml().splitlines()
        lines = [
            f"{key} = {toml(to)}" if line.partition(" =")[0] == key else line for line in lines
        ]
        (place / "c.toml").write_text("\n".join(lines), "utf-8", "surrogatepass")
        found = either(lambda: load_scheme(str(place / "c.toml")), UsageError)
        assert found is None or isinstance(found, ClassScheme)

    @MANY
    @given(line=st.sampled_from(GROUPS.splitlines()), to=ODD)
    def test_a_groups_file_with_any_value(self, place: Path, line: str, to: Any) -> None:
        text = GROUPS.replace(line, f"{line.partition(' =')[0]} = {toml(to)}")
        (place / "g.toml").write_text(text, "utf-8", "surrogatepass")
        found = either(lambda: read_groups(place / "g.toml"), UsageError)
        if found:
            either(lambda: regrouping(found.groups, BUILT_IN["bcss5"].classes), UsageError)


FEATURE = {
    "type": "Feature",
    "geometry": {
        "type": "Polygon",
        "coordinates": [[[0, 0], [9, 0], [9, 9]], [[1, 1], [2, 1], [2, 2]]],
    },
    "properties": {"name": "a", "classification": {"name": "Tumor", "color": [200, 0, 0]}},
}


class TestAnnotations:
    @MANY
    @given(path=st.lists(st.integers(0, 5), max_size=6), to=ODD)
    def test_a_feature_with_any_value_at_any_path(
        self, place: Path, path: list[int], to: Any
    ) -> None:
        values = changed({"type": "FeatureCollection", "features": [FEATURE]}, path, to)
        (place / "a.geojson").write_text(json.dumps(values), "utf-8", "surrogatepass")
        either(lambda: region_boxes(read_annotations(place / "a.geojson")), UsageError)


def test_damaged_slides_end_in_documented_errors(tmp_path: Path) -> None:
    """A few mutants of `benchmarks.mutants`; benchmarks/history/resilience.md has thousands."""
    fates = list(hunt(small_slides(tmp_path / "small"), range(60), 0))
    assert [fate for fate in fates if fate.is_bad] == []
    assert len({fate.end for fate in fates}) > 2
