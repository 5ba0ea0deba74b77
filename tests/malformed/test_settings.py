"""Settings, class schemes and result files that do damage."""

from pathlib import Path

import pytest
from malformed.refusals import DEEP, DIGITS, refusal

from noctile.pipeline.truth.scheme import load_scheme
from noctile.workflows.results.files import read_json
from noctile.workflows.settings import load_settings

TOML = {
    "deep": "a = " + DEEP,
    "digits": f"workers = {DIGITS}",
    "NaN": "mpp = nan",
    "no mpp": "mpp = -1.0",
    "tissue in atoms": "tissue = {mpp = 1e-9}",
    "tissue in nothing": "tissue = {mpp = nan}",
    "less than no tissue": "tissue = {min_area_mm2 = -1.0}",
    "endless tissue": "tissue = {max_hole_mm2 = inf}",
    "a million workers": "workers = 1_000_000",
    "a million threads": "threads = 1_000_000",
    "a device out of line": 'device = "cuda:0; rm"',
    "unknown": '"\\u0000" = 1',
    "a date": "mpp = 2020-01-01",
    "2 MB": "# " + "a" * 2_000_000,
    "a million keys": "\n".join(f"k{k} = 1" for k in range(60_000)),
}


class TestSettings:
    @pytest.mark.parametrize("name", TOML)
    def test_impossible_settings_are_a_short_error(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "s.toml").write_text(TOML[name], "utf-8")
        assert "settings" in refusal(load_settings, tmp_path / "s.toml")

    @pytest.mark.parametrize("content", [b"\xff\xfem\0", b"mpp = \xe9", b"\0"])
    def test_settings_that_are_no_text_are_an_error(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "s.toml").write_bytes(content)
        assert "s.toml" in refusal(load_settings, tmp_path / "s.toml")

    @pytest.mark.parametrize(
        "content",
        ["a = " + DEEP, f"ignore = [{DIGITS}]", "name = nan", "\0", "[[classes]]\n" * 50_000],
    )
    def test_a_bad_class_scheme_is_an_error(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "c.toml").write_text(content)
        assert "class scheme" in refusal(load_scheme, str(tmp_path / "c.toml"))

    @pytest.mark.parametrize("content", [DEEP, DIGITS, "5", "[]", "\0", "{"])
    def test_a_plan_or_summary_with_other_content_is_a_damaged_store(
        self, tmp_path: Path, content: str
    ) -> None:
        (tmp_path / "plan.json").write_text(content)
        assert "is damaged" in refusal(read_json, tmp_path / "plan.json")
