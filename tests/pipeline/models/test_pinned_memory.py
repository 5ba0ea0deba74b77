"""Copies to host memory, without a GPU and (where there is one) from it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from noctile.pipeline.models.pinned_memory import copy_to_host, gpu_is_broken, pin, unpin


def test_arrays_of_numpy_and_torch_are_copied():
    sources = [np.arange(6, dtype=np.uint8), torch.arange(4, dtype=torch.uint8)]
    targets = [np.zeros(6, np.uint8), np.zeros(4, np.uint8)]
    copy_to_host(sources, targets)
    assert [t.tolist() for t in targets] == [list(range(6)), list(range(4))]


def test_without_a_gpu_in_use_torch_is_not_imported_and_nothing_is_pinned(repo):
    program = """
import sys
import numpy as np
from noctile.pipeline.models.pinned_memory import copy_to_host, gpu_is_broken, pin
copy_to_host([np.ones(3, np.uint8)], [np.zeros(3, np.uint8)])
print(pin(np.zeros(10, np.uint8)), gpu_is_broken(), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False", "False"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_copies_to_pinned_memory():
    source = torch.arange(200, dtype=torch.uint8, device="cuda")
    target = np.zeros(200, np.uint8)
    assert pin(target)
    copy_to_host([source], [target])
    unpin(target)
    assert target.tolist() == list(range(200))
    assert not gpu_is_broken()
