"""Resources of a run, resolved on machines of any size."""

import os
from math import inf

import pytest

from noctile.pipeline.errors import UsageError
from noctile.pipeline.models.folder import find_model, read_card
from noctile.workflows import resources
from noctile.workflows.cgroups import CgroupLimits
from noctile.workflows.resources import Resources, cores, resolve_resources, shared_memory_bytes
from noctile.workflows.settings import RunSettings


@pytest.fixture
def machine(monkeypatch):
    """Function that gives this machine so many cores, so much memory (GiB) and so many GPUs."""

    def make(n_cores: int, gib: int, gpus: int = 0) -> None:
        device = "cuda" if gpus else "cpu"
        monkeypatch.setattr(resources, "cores", lambda: n_cores)
        monkeypatch.setattr(resources, "machine_bytes", lambda: gib * 2**30)
        monkeypatch.setattr(resources, "gpus_of", lambda _: tuple(map(str, range(gpus))))
        monkeypatch.setattr(
            resources, "resolve_device", lambda asked: device if asked == "auto" else asked
        )

    return make


def resolve(*, has_network: bool = True, **changed) -> Resources:
    settings = RunSettings(**changed)
    tiling = settings.tiling(read_card(find_model("tumor")))
    return resolve_resources(settings, tiling, has_network=has_network)


def test_workers_times_threads_do_not_exceed_the_cores():
    found = resolve(device="cpu")
    assert 1 <= found.workers * found.threads <= cores()


def test_a_gpu_is_shared_by_a_process_for_each_core_and_at_most_sixteen(machine):
    def workers(n_cores: int, gib: int, gpus: int) -> int:
        machine(n_cores, gib, gpus)
        return resolve().workers

    assert [workers(16, 128, 1), workers(64, 512, 1), workers(64, 512, 8)] == [16, 16, 64]
    assert [workers(64, 96, 8), workers(2, 24, 1), workers(2, 24, 4)] == [32, 2, 4]
    assert workers(8, 3, 1) == 1


def test_the_number_of_workers_that_is_asked_for_is_taken(machine):
    machine(2, 4, 1)
    found = resolve(workers=5)
    assert (found.workers, found.threads, found.processes_per_gpu) == (5, 1, 5)


def test_the_serial_engine_is_one_worker_with_all_cores_and_names_its_gpu(machine):
    machine(8, 64, 2)
    found = resolve(engine="serial", device="cuda:1")
    assert (found.workers, found.threads, found.device, found.served) == (1, 8, "cuda:1", False)


def test_workers_of_a_local_cluster_see_one_gpu_each(machine):
    machine(8, 64, 2)
    assert resolve(device="cuda:1").device == "cuda"
    there = resolve(device="cuda:1", scheduler="tcp://10.0.0.1:8786")
    assert (there.device, there.processes_per_gpu) == ("cuda:1", 1)


@pytest.mark.parametrize(
    ("changed", "served"),
    [
        ({}, True),
        ({"engine": "serial"}, False),
        ({"scheduler": "tcp://10.0.0.1:8786"}, False),
        ({"window": "blend"}, False),
        ({"has_network": False}, False),
    ],
)
def test_a_local_run_of_a_network_on_gpus_has_inference_servers(
    machine, monkeypatch, changed, served
):
    machine(8, 64, 1)
    monkeypatch.setattr(resources.sys, "platform", "linux")
    assert resolve(**changed).served is served
    machine(8, 64, 0)
    assert not resolve(**changed).served


@pytest.fixture
def limits(monkeypatch):
    """Function that sets the limits of the control groups of this process."""

    def set_to(**changed: float) -> None:
        monkeypatch.setattr(resources, "cgroup_limits", lambda: CgroupLimits(**changed))

    return set_to


def test_workers_share_nine_tenths_of_the_memory_that_a_container_allows(limits):
    limits(memory_bytes=4 * 10**9)
    assert resolve(device="cpu", workers=2).worker_bytes == 1_800_000_000
    limits()
    assert resolve(device="cpu", workers=2).worker_bytes != 1_800_000_000
    assert resolve(device="cpu", max_memory_bytes="3G").worker_bytes == 3 * 2**30


def test_a_container_with_little_memory_has_few_workers(limits):
    limits(memory_bytes=3 * 10**9)
    found = resolve(device="cpu")
    assert (found.workers, found.worker_bytes) == (1, 2_700_000_000)


def test_cores_follow_the_cpu_time_that_a_container_may_use(limits, monkeypatch):
    monkeypatch.setattr(
        resources.os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False
    )
    found = []
    for cpus in (0.5, 1.5, 4.0, 64.0):
        limits(cpus=cpus)
        found.append(cores())
    assert found == [1, 2, 4, 8]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_cores_follow_the_affinity_of_the_process():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_block_that_does_not_fit_into_the_memory_of_a_worker_is_refused():
    with pytest.raises(UsageError, match="a smaller block_px"):
        resolve(device="cpu", max_memory_bytes="600M", block_px=16384)
    assert resolve(device="cpu", max_memory_bytes="600M", block_px=512).worker_bytes == 600 * 2**20


def test_shared_memory_that_is_free_is_that_of_its_file_system(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "_SHARED_MEMORY", tmp_path)
    assert 0 < shared_memory_bytes() < inf
    monkeypatch.setattr(resources, "_SHARED_MEMORY", tmp_path / "none")
    assert shared_memory_bytes() == inf
