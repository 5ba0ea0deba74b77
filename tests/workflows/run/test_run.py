"""Start of a run: the model, the machine, the folder of results and the engine."""

from dataclasses import replace

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.folder import find_model
from noctile.workflows.engines.serial import SerialEngine
from noctile.workflows.jobs.entry import JOB_MODULES
from noctile.workflows.run.run import held, open_context, start_engine
from noctile.workflows.run.stop import Stop
from noctile.workflows.settings import RunSettings


@pytest.fixture
def settings() -> RunSettings:
    return RunSettings(device="cpu", backend="torch")


@pytest.fixture
def options(monkeypatch) -> dict:
    """Arguments with which the Dask engine was started last."""
    seen: dict = {}

    class Engine:
        def __init__(self, workers, **options):
            seen.update(options, workers=workers)

    monkeypatch.setattr("noctile.workflows.engines.dask.DaskEngine", Engine)
    return seen


def test_the_folder_of_results_exists_afterwards_and_the_model_is_named(settings, tmp_path):
    context = open_context(settings, tmp_path / "deep" / "out")
    assert context.results.slides.is_dir()
    assert context.model == str(find_model("tumor").resolve())


def test_a_model_that_does_not_exist_is_named_before_anything_is_written(settings, tmp_path):
    with pytest.raises(UsageError, match="no-such"):
        open_context(settings.model_copy(update={"model": "no-such"}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_serial_engine_starts_no_process(settings, tmp_path):
    serial = settings.model_copy(update={"engine": "serial"})
    assert isinstance(start_engine(open_context(serial, tmp_path)), SerialEngine)


def test_workers_get_the_resources_of_the_run(settings, options, tmp_path):
    context = open_context(settings.model_copy(update={"workers": 3, "threads": 2}), tmp_path)
    start_engine(context)
    assert (options["workers"], options["env"]["OMP_NUM_THREADS"]) == (3, "2")
    assert options["memory_bytes"] == context.resources.worker_bytes
    assert (*options["gpus"], options["scheduler"]) == (None,)


def test_workers_of_an_inference_server_need_no_torch(settings, options, tmp_path):
    context = open_context(settings, tmp_path)
    start_engine(context)
    assert options["preload"] == (*JOB_MODULES, "noctile.pipeline.models.torch_predictor")
    start_engine(replace(context, servers={"0": "address"}))
    assert options["preload"] == JOB_MODULES


def test_a_folder_is_held_by_one_run_at_a_time(settings, tmp_path):
    stop = Stop(tmp_path, 0, None, lambda reason: None)
    with held(tmp_path, stop) as (lease, _):
        assert lease.held
        with pytest.raises(UsageError, match="another run"), held(tmp_path, stop):
            raise AssertionError("it was held twice")
    with held(tmp_path, stop) as (lease, _):
        assert lease.held
