"""``noctile run`` with faults: ``python -m faulty_run run ...``.

Steps fail as the name of their slide requests (`faulty_slides`). Variables of the environment
change a run further:

- ``FAULTY_RUN_SIMULATED``: steps write their results without their work;
- ``FAULTY_RUN_RENAME_S``: time that every rename of a file takes (s), as on a busy network folder,
  so that kills meet files that are half written;
- ``FAULTY_RUN_LOG``: file to which a line is written for every block that is begun.
"""

import ctypes
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import noctile.workflows.run.loop
from noctile.workflows.jobs.entry import do
from noctile.workflows.jobs.messages import Prepared, StepJob
from noctile.workflows.results.files import write_json


def do_with_faults(job: StepJob) -> Any:
    """Do a step with the fault that the first word of its slide's name requests.

    ``stuck`` hangs in the first step, the others when a block is segmented.
    """
    if job.step.kind == "segment":
        if log := os.environ.get("FAULTY_RUN_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{job.step.key}\n")
        _FAULTS.get(job.step.slide_id.partition("-")[0], lambda _: None)(job)
    elif job.step.slide_id.startswith("stuck-"):
        _hang(job)
    return do(job)


def simulate(job: StepJob) -> Any:
    """Write the results of a step without its work."""
    slide_id = job.step.slide_id
    key, staged = job.run.slide_key(slide_id, None), job.run.results.staged(slide_id)
    if job.step.kind == "prepare":
        return Prepared(key, True, False, ((0, 0), (0, 1)), (9, 9), slide_id, staged)
    if job.step.kind == "segment":
        write_json(job.run.results.staged(slide_id).block_stats(job.step.block), {})
        return 9
    figures = {
        "tumor_area_mm2": 0.25,
        "tissue_area_mm2": 1.0,
        "qc_flags": [],
        "versions": {"numpy": "2"},
    }
    write_json(
        job.run.results.slide(slide_id).summary, {"key": key, "fingerprint": slide_id, **figures}
    )
    return None


def _hang(_: StepJob) -> None:
    ctypes.CDLL(None).pause()


def _hang_with_lock(_: StepJob) -> None:
    ctypes.PyDLL(None).pause()  # PyDLL keeps the interpreter's lock


def _segfault(_: StepJob) -> None:
    ctypes.string_at(0)


def _use_all_memory(_: StepJob) -> None:
    held = []
    while True:
        held.append(np.ones(1 << 24, np.uint8))
        time.sleep(0.01)


def _delete_slide(job: StepJob) -> None:
    job.entry.path.unlink(missing_ok=True)


_FAULTS = {
    "hang": _hang,
    "deaf": _hang_with_lock,
    "segfault": _segfault,
    "hog": _use_all_memory,
    "vanish": _delete_slide,
}


def _rename_slowly(seconds: float) -> None:
    replace = Path.replace

    def slow(path: Path, target: Path) -> Path:
        time.sleep(seconds)
        return replace(path, target)

    Path.replace = slow  # type: ignore[method-assign]


if (
    __name__ != "__main__" and "FAULTY_RUN_RENAME_S" in os.environ
):  # also in workers, which import this module
    _rename_slowly(float(os.environ["FAULTY_RUN_RENAME_S"]))


def main() -> None:
    """Run the command line with faulty steps."""
    simulated = "FAULTY_RUN_SIMULATED" in os.environ
    noctile.workflows.run.loop.do = simulate if simulated else do_with_faults  # type: ignore[assignment]
    from noctile.cli import main as cli

    cli()


if __name__ == "__main__":
    import faulty_run  # functions are pickled by the name under which workers find them

    faulty_run.main()
