"""Clusters: one of Noctile, and one that another program started."""

import os
import subprocess
import sys

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


@pytest.fixture
def cluster_of_its_own(tmp_path, repo):
    """A scheduler with a worker in another process, as a batch system would start them."""
    (tmp_path / "cluster.py").write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "cluster.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{repo}:{repo / 'tests'}"},
    )
    yield process.stdout.readline().strip(), process
    process.kill()
    process.communicate()
