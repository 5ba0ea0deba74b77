"""Shared buffers: arrays of a request lie behind one another."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from standins import card

from noctile.workflows.inference.buffers import Request


@pytest.mark.parametrize("part", [None, (8, 56)])
def test_the_arrays_of_a_request_fill_its_buffer_without_overlap(part):
    model = card(tile_px=64, classes=3)
    request = Request(2, part)
    buffer = np.zeros(request.size_bytes(model), np.uint8)
    arrays = request.arrays(model, buffer)
    for array in arrays:
        array.view(np.uint8)[...] += 1
    assert (buffer == 1).all()
    assert arrays[0].shape == (2, 64, 64, 3)
    answer = [(2, 3, 64, 64)] if part is None else [(2, 48, 48)] * 3
    assert [array.shape for array in arrays[1:]] == answer


SMALL = """
import os, shutil
from multiprocessing import Pipe
from multiprocessing.reduction import recv_handle
from threading import Thread
from noctile.workflows.inference.buffers import BorrowedBuffer, lend_buffer
assert shutil.disk_usage("/dev/shm").total == 65536
near, far = Pipe()
borrowed = []
take = lambda: borrowed.append(BorrowedBuffer(*reversed((far.recv(), recv_handle(far)))))
thread = Thread(target=take)
thread.start()
lent = lend_buffer(near, 2**24)
thread.join()
lent[:] = 7
assert (borrowed[0].bytes == 7).all()
"""


def test_a_buffer_may_be_larger_than_the_shared_memory_of_a_container(repo):
    if os.getuid() or not shutil.which("unshare"):
        pytest.skip("only root can mount a small /dev/shm")
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    if subprocess.run(
        ["unshare", "-m", "sh", "-c", mount], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine lets no file system be mounted")
    program = [
        "unshare",
        "-m",
        "sh",
        "-c",
        f'{mount} && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        SMALL,
    ]
    subprocess.run(program, check=True, cwd=repo, timeout=60)
