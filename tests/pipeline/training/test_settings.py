"""Settings of a training are checked, and their paths are made absolute."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from noctile.pipeline.training.settings import TrainSettings
from noctile.pipeline.truth.split import SplitSpec


def test_paths_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    settings = TrainSettings(
        classes="mine.toml", encoder_weights="w.pt", split=SplitSpec(file=Path("split.csv"))
    ).resolved(tmp_path)
    assert settings.classes == str(tmp_path.resolve() / "mine.toml")
    assert settings.encoder_weights == str(tmp_path.resolve() / "w.pt")
    assert settings.split.file == tmp_path.resolve() / "split.csv"


def test_names_of_schemes_and_weights_are_no_paths(tmp_path: Path) -> None:
    assert TrainSettings().resolved(tmp_path) == TrainSettings()


@pytest.mark.parametrize(
    "wrong", [{"crop_px": 100}, {"epochs": 0}, {"rate": 0}, {"device": "gpu"}, {"unknown": 1}]
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainSettings(**wrong)
