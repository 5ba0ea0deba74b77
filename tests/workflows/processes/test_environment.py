"""Environment of worker processes, and the modules that only they import."""

import subprocess
import sys

from noctile.workflows.processes import environment


def test_workers_on_a_gpu_keep_the_systems_rules_for_memory():
    threads = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1"}
    assert environment.worker_env(3, gpus=True) == threads
    assert environment.worker_env(3, gpus=False) == {**threads, **environment.MALLOC}


def test_a_runs_own_process_imports_nothing_that_only_jobs_need():
    jobs = ("noctile.workflows.jobs.worker", "scipy.ndimage", "zarr", "openslide", "tifffile")
    program = f"""
import sys
import noctile.cli, noctile.workflows.engines.dask, noctile.workflows.run.run
print([name for name in {jobs} if name in sys.modules])
import noctile.workflows.jobs.segment_block
print([name for name in {jobs} if name not in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n[]\n"
