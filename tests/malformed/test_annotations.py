"""Annotations that do damage."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from malformed.calls import boxes_of, read_and_draw
from malformed.limits import within_limits
from malformed.refusals import DEEP, DIGITS, refusal


def area(*rings: Any, label: str = "Tumor") -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return {"geometry": geometry, "properties": {"classification": {"name": label}}}


def ring_of(points: int) -> list[list[float]]:
    angle = np.linspace(0, 2 * np.pi, points)
    return np.stack([5000 + 2500 * np.cos(angle), 5000 + 2500 * np.sin(angle)], axis=1).tolist()


SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9]]


GEOJSON = {
    "deep": DEEP,
    "digits": json.dumps([area([[0, 0], [1, 1]])]).replace("1", DIGITS),
    "a large whole number": json.dumps([area([[10**400, 0], [1, 1]])]),
    "NaN": json.dumps([area([[float("nan"), 0], [1, 1]])]),
    "infinity": json.dumps([area([[float("inf"), 0], [1, 1]])]),
    "1e308": json.dumps([area([[1e308, 0], [-1e308, 1]])]),
    "far out": json.dumps([area([[2**31, 2**31], [0, 0], [1, 0]])]),
    "no points": json.dumps([area([])]),
    "no rings": json.dumps([area()]),
    "empty points": json.dumps([area([[], []])]),
    "one number a point": json.dumps([area([[1], [2]])]),
    "text": json.dumps([area([["a", "b"]])]),
    "names": json.dumps([area("abc")]),
    "a list for a feature": "[[1]]",
    "nothing": "",
    "a million features": "[" + ",".join(["1"] * 1_000_000) + "]",
    "a class of 10 MB": json.dumps([area(SQUARE, label="x" * 5_000_000)]),
}


class TestAnnotations:
    @pytest.mark.parametrize("name", GEOJSON)
    def test_bad_annotations_are_an_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "a.geojson").write_text(GEOJSON[name])
        assert "annotations" in refusal(read_and_draw, tmp_path / "a.geojson")

    def test_gzip_that_unpacks_to_gigabytes_is_not_unpacked(self, tmp_path: Path) -> None:
        (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b" " * 2**28, 1))
        assert "unpacks to more than" in refusal(read_and_draw, tmp_path / "a.geojson.gz")

    def test_too_large_annotations_are_not_read(self, tmp_path: Path) -> None:
        with (tmp_path / "a.geojson").open("wb") as file:
            file.truncate(2**33)
        assert "It has more than" in refusal(read_and_draw, tmp_path / "a.geojson")

    def test_an_outline_of_a_hundred_thousand_points_is_drawn(self, tmp_path: Path) -> None:
        (tmp_path / "a.geojson").write_text(json.dumps([area(ring_of(100_000))]))
        assert within_limits(read_and_draw, tmp_path / "a.geojson") == 1

    def test_an_outline_that_runs_up_and_down_all_rows_takes_little_memory(
        self, tmp_path: Path
    ) -> None:
        # 40 million crossings take 320 MB for each number that is stored of them
        zigzag = [[k / 10, 8000 * (k % 2)] for k in range(5_000)]
        (tmp_path / "a.geojson").write_text(json.dumps([area(zigzag)]))
        assert within_limits(read_and_draw, tmp_path / "a.geojson") == 1

    def test_many_areas_are_joined_in_a_short_time(self, tmp_path: Path) -> None:
        areas = [
            area([[x, y], [x + 5, y], [x, y + 5]])
            for x in range(0, 1400, 10)
            for y in range(0, 1400, 10)
        ]
        (tmp_path / "a.geojson").write_text(json.dumps(areas))
        assert len(within_limits(boxes_of, tmp_path / "a.geojson")) == 140 * 140
