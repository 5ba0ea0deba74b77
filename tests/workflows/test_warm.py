"""The process that workers are forked from begins before a run's own modules are imported, where it is used at all."""

import subprocess
import sys

import pytest

from pipeline.errors import ModelError
from workflows import warm
from workflows.config import RunSettings


@pytest.fixture
def started(monkeypatch):
    calls = []
    monkeypatch.setattr(warm, "start_forkserver", lambda modules, env: calls.append((modules, env)))
    return calls


def test_workers_import_what_their_model_needs_with_their_environment(started):
    warm.warm_up(RunSettings(device="cpu", backend="torch", workers=1, threads=3))
    ((modules, env),) = started
    assert modules == ("workflows.jobs", "pipeline.models.unet")
    assert env == {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1", **warm.MALLOC}


@pytest.mark.parametrize("other", [{"engine": "serial"}, {"scheduler": "tcp://10.0.0.1:8786"}])
def test_without_workers_of_its_own_a_run_begins_nothing(started, other):
    warm.warm_up(RunSettings(device="cpu", **other))
    assert started == []


def test_workers_on_gpus_keep_the_systems_rules_for_memory(started, monkeypatch):
    monkeypatch.setattr(warm, "resolve_device", lambda _: "cuda")
    monkeypatch.setattr(warm, "gpus_of", lambda _: ("0",))
    warm.warm_up(RunSettings(workers=1, threads=1))
    assert started == [
        (("workflows.jobs", "pipeline.models.unet"), {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    ]


def test_a_model_that_is_not_there_is_named_as_by_the_run(started):
    with pytest.raises(ModelError, match="neither an installed model nor a folder"):
        warm.warm_up(RunSettings(model="nowhere", device="cpu"))


def test_it_is_there_before_anything_large_is():
    """What is imported first is what everything waits for."""
    large = ("torch", "openvino", "distributed", "zarr", "scipy.ndimage", "skimage.filters", "pyarrow")
    program = f"import sys; import workflows.warm; print([name for name in {large} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
