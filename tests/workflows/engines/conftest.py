"""Clusters: one of Noctile, and one that another program started."""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

from noctile.workflows.engines.dask import DaskEngine


@pytest.fixture(scope="module")
def cluster():
    engine = DaskEngine(2, env={"OMP_NUM_THREADS": "1"})
    yield engine
    engine.close()


@pytest.fixture
def engine(cluster):
    return cluster


CLUSTER = """
from distributed import LocalCluster
if __name__ == "__main__":
    options = dict(host="127.0.0.1", dashboard_address="127.0.0.1:0")
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


@contextmanager
def started_cluster(folder, *python_path):
    """A scheduler with a worker in another process, as a batch system would start them."""
    (folder / "cluster.py").write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, str(folder / "cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ":".join(map(str, python_path))},
    )
    yield process.stdout.readline().strip(), process
    process.kill()
    process.communicate()


@pytest.fixture
def cluster_of_its_own(tmp_path, repo):
    """A cluster in the environment of the tests."""
    with started_cluster(tmp_path, repo, repo / "tests") as cluster:
        yield cluster


@pytest.fixture
def cluster_with(tmp_path):
    """Function that starts a cluster with another ``noctile``; returns its address."""
    with ExitStack() as stack:

        def start(source: str) -> str:
            (tmp_path / "noctile.py").write_text(source)
            return stack.enter_context(started_cluster(tmp_path, tmp_path))[0]

        yield start
