"""The process that workers are forked from begins before a run's own modules are imported, where it is used at all."""

import json
import os
import subprocess
import sys

import pytest

from pipeline.errors import ModelError, UsageError
from workflows import warm

TUNED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **warm.MALLOC}


@pytest.fixture
def started(monkeypatch):
    calls = []
    monkeypatch.setattr(warm, "start_forkserver", lambda modules, env: calls.append((modules, env)))
    return calls


@pytest.fixture
def imported(monkeypatch):
    names = []
    monkeypatch.setattr(warm, "import_module", names.append)
    return names


@pytest.fixture
def asked(monkeypatch):
    """Have `import_asked` do what a call asks for; the environment is as before afterwards."""
    for name in TUNED:
        monkeypatch.setenv(name, os.environ.get(name, "unset"))

    def ask(config, **options):
        monkeypatch.setenv(warm._ASKED, json.dumps([config and str(config), options]))
        warm.import_asked()

    return ask


def test_without_gpus_it_begins_before_the_settings_are_read(started, tmp_path):
    config = tmp_path / "night.toml"
    warm.warm_up(config, {"device": "cpu", "model": "nowhere", "workers": 1, "mpp": None})
    ((modules, env),) = started
    assert modules == ("workflows.asked",)
    assert json.loads(env.pop(warm._ASKED)) == [
        str(config),
        {"device": "cpu", "model": "nowhere", "workers": 1, "mpp": None},
    ]
    assert env == TUNED


def test_it_imports_what_the_model_needs_with_the_workers_environment(imported, asked):
    asked(None, device="cpu", backend="torch", workers=1, threads=3, mpp=None)
    assert imported == ["workflows.jobs", "pipeline.models.unet"]
    assert {name: os.environ[name] for name in TUNED} == {**TUNED, "OMP_NUM_THREADS": "3"}
    assert warm._ASKED not in os.environ


def test_it_reads_the_settings_file(imported, asked, tmp_path):
    config = tmp_path / "night.toml"
    config.write_text('model = "tumor"\nbackend = "torch"\n', encoding="utf-8")
    asked(config, device="cpu")
    assert imported == ["workflows.jobs", "pipeline.models.unet"]
    config.write_text('engine = "serial"\n', encoding="utf-8")
    imported.clear()
    asked(config, device="cpu")
    assert imported == []


def test_a_fault_in_the_settings_is_left_to_the_run(imported, asked, tmp_path):
    asked(tmp_path / "nowhere.toml", device="cpu")
    asked(None, device="cpu", model="nowhere")
    asked(None, device="cpu", workers="many")
    assert imported == []


@pytest.mark.parametrize("other", [{"engine": "serial"}, {"scheduler": "tcp://10.0.0.1:8786"}])
@pytest.mark.parametrize("gpu", [False, True])
def test_without_workers_of_its_own_a_run_begins_nothing(started, monkeypatch, other, gpu, tmp_path):
    monkeypatch.setattr(warm, "may_be_gpu", lambda _: gpu)
    warm.warm_up(None, {"device": None, **other})
    if gpu:
        config = tmp_path / "night.toml"
        config.write_text("".join(f'{name} = "{value}"\n' for name, value in other.items()), encoding="utf-8")
        warm.warm_up(config, {"device": None})
    assert started == []


class TestWithGpus:
    @pytest.fixture(autouse=True)
    def _with_a_gpu(self, monkeypatch):
        monkeypatch.setattr(warm, "may_be_gpu", lambda device: device != "cpu")
        monkeypatch.setattr(warm, "resolve_device", lambda _: "cuda")
        monkeypatch.setattr(warm, "gpus_of", lambda _: ("0",))

    def test_workers_that_ask_a_server_need_no_torch(self, started):
        warm.warm_up(None, {"workers": 1, "threads": 1})
        assert started == [(("workflows.jobs",), warm.worker_env(1, gpus=False))]

    def test_those_that_compute_keep_the_systems_rules_for_memory(self, started):
        warm.warm_up(None, {"workers": 1, "threads": 1, "window": "blend"})
        env = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        assert started == [(("workflows.jobs", "pipeline.models.unet"), env)]

    def test_what_is_not_there_is_named_as_by_the_run(self, started):
        with pytest.raises(ModelError, match="neither an installed model nor a folder"):
            warm.warm_up(None, {"model": "nowhere"})
        with pytest.raises(UsageError, match="workers"):
            warm.warm_up(None, {"workers": "many"})
        assert started == []


def test_it_is_there_before_anything_large_is():
    """What is imported first is what everything waits for."""
    large = ("numpy", "pydantic", "torch", "openvino", "distributed", "zarr", "scipy", "pyarrow")
    program = f"import sys; import cli, workflows.warm; print([name for name in {large} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_runs_own_process_imports_nothing_that_only_jobs_need():
    """It would do so beside the process that workers are forked from, on the cores that this one waits for."""
    jobs = ("workflows.jobs", "scipy.ndimage", "zarr", "openslide", "tifffile")
    program = f"""
import sys
import cli, workflows.engines.dask, workflows.segment
print([name for name in {jobs} if name in sys.modules])
import workflows.jobs
print([name for name in {jobs} if name not in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_workers_of_a_process_that_began_first_have_its_modules_and_environment(tmp_path):
    """As the command does it: nothing that a worker needs is imported after the fork."""
    modules = ("workflows.jobs", "pipeline.models.unet", "distributed.nanny")
    program = """
import multiprocessing
from workflows.warm import warm_up
from workers import look

if __name__ == "__main__":
    warm_up(None, dict(device="cpu", backend="torch", workers=1, threads=3))
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.apply(look))
"""
    (tmp_path / "workers.py").write_text(
        f"import os, sys\n\n\ndef look():\n    there = [name in sys.modules for name in {modules}]\n"
        f"    return there, [os.environ.get(name) for name in {[*TUNED, warm._ASKED]}]\n",
        encoding="utf-8",
    )
    (tmp_path / "main.py").write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(([True] * 3, ["3", "1", *warm.MALLOC.values(), None]))
