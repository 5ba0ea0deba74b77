import pytest

from pipeline.errors import UsageError
from workflows.config import RunSettings, load_settings


def test_options_override_the_file_and_the_file_the_defaults(tmp_path):
    (tmp_path / "run.toml").write_text('batch_size = 3\nengine = "serial"\n[tissue]\nmin_area_mm2 = 0.5\n')
    settings = load_settings(tmp_path / "run.toml", engine="dask", workers=None)
    assert (settings.batch_size, settings.engine, settings.workers) == (3, "dask", None)
    assert settings.tissue.min_area_mm2 == 0.5
    assert settings.window == RunSettings().window


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batch_size = 0", "batch_size"),
        ("batchsize = 4", "batchsize"),
        ('device = "gpu"', "device"),
        ("batch_size = ", "run.toml"),
        ("[tissue]\nmpp = 'x'", "tissue.mpp"),
        ("[tissue]\nmmp = 8", "mmp"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path, text, named):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(UsageError, match=named):
        load_settings(tmp_path / "run.toml")


def test_a_settings_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no\.toml"):
        load_settings(tmp_path / "no.toml")


def test_processes_times_threads_do_not_exceed_the_cores():
    from workflows.config import cores

    settings = RunSettings()
    processes = settings.processes(gpus=0)
    assert 1 <= processes * settings.torch_threads(processes) <= cores()
    assert settings.processes(gpus=3) == 3
    assert RunSettings(workers=5).processes(gpus=0) == 5
