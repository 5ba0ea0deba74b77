import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.folder import find_model, read_card
from noctile.workflows.settings import RunSettings, load_settings


def test_options_override_the_file_and_the_file_the_defaults(tmp_path):
    (tmp_path / "run.toml").write_text(
        'batch_size = 3\nengine = "serial"\n[tissue]\nmin_area_mm2 = 0.5\n'
    )
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
        ('backend = "onnx"', "backend"),
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


def test_two_backends_have_different_pixels_keys():
    card = read_card(find_model("tumor"))
    keys = {RunSettings().pixels_key(card, {}, "cpu", backend) for backend in ("torch", "openvino")}
    assert len(keys) == 2


def test_durations_and_sizes_may_have_units(tmp_path):
    (tmp_path / "run.toml").write_text(
        'slide_timeout_s = "30m"\nmax_memory_bytes = "4G"\nuntil = 07:00:00\n'
    )
    settings = load_settings(tmp_path / "run.toml", min_free_disk_bytes="1.5 TB")
    assert (settings.slide_timeout_s, settings.max_memory_bytes) == (1800, 4 * 2**30)
    assert (settings.min_free_disk_bytes, settings.until) == (3 * 2**39, "07:00:00")
    assert load_settings(None, slide_timeout_s="off").slide_timeout_s is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("slide_timeout_s", "half an hour"),
        ("slide_timeout_s", "0s"),
        ("max_memory_bytes", "much"),
        ("max_memory_bytes", "0"),
        ("min_free_disk_bytes", "-1G"),
        ("until", "25:00"),
        ("until", "tomorrow"),
    ],
)
def test_a_limit_that_cannot_be_understood_is_named(name, text):
    with pytest.raises(UsageError, match=name):
        load_settings(None, **{name: text})


def test_redo_and_check_content_change_no_pixel():
    card = read_card(find_model("tumor"))
    plain, other = RunSettings(), RunSettings(redo=True, check_content="full")
    keys = {s.pixels_key(card, {}, "cpu", "torch") for s in (plain, other)}
    assert len(keys) == 1
