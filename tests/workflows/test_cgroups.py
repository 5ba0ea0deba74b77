"""Limits of control groups: versions 1 and 2, nested, in containers and outside."""

import os
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

from noctile.workflows.cgroups import CgroupLimits, cgroup_limits

GIB = 2**30
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"


@pytest.fixture
def tree(tmp_path):
    """Function that makes files of a file system, with the groups and mounts of this process."""

    def make(groups: list[str], mounts: list[str]) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
        (tmp_path / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
        return tmp_path

    return make


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_a_group_of_version_2_and_its_parents_limit_memory_and_cpu_time(tree):
    root = tree(["0::/batch/job_7/step_0"], [V2])
    write(root, {"batch/memory.max": f"{64 * GIB}", "batch/cpu.max": "1600000 100000"})
    write(root, {"batch/job_7/memory.max": f"{3 * GIB}", "batch/job_7/cpu.max": "150000 100000"})
    write(
        root, {"batch/job_7/step_0/memory.max": "max", "batch/job_7/step_0/cpu.max": "max 100000"}
    )
    assert cgroup_limits(root) == CgroupLimits(3 * GIB, 1.5)


def test_a_group_beside_the_own_one_limits_nothing(tree):
    root = tree(["0::/jobs/mine"], [V2])
    write(root, {"jobs/mine/memory.max": f"{3 * GIB}", "jobs/other/memory.max": f"{GIB}"})
    assert cgroup_limits(root).memory_bytes == 3 * GIB


def test_the_memory_above_which_processes_are_slowed_down_is_a_limit(tree):
    root = tree(["0::/user"], [V2])
    write(root, {"user/memory.max": f"{4 * GIB}", "user/memory.high": f"{3 * GIB}"})
    assert cgroup_limits(root).memory_bytes == 3 * GIB


def test_a_container_of_version_2_sees_its_own_group_as_the_root(tree):
    root = tree(["0::/"], [V2])
    write(root, {"memory.max": f"{3 * GIB}", "cpu.max": "50000 100000"})
    assert cgroup_limits(root) == CgroupLimits(3 * GIB, 0.5)


V1 = [
    "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct",
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory",
]


def test_groups_of_version_1_are_nested_too(tree):
    root = tree(["5:memory:/slurm/job_7/task_0", "3:cpu,cpuacct:/slurm/job_7"], V1)
    write(
        root,
        {
            f"memory/slurm/{name}/memory.limit_in_bytes": f"{2**63 - 4096}"
            for name in ("", "job_7/task_0")
        },
    )
    write(root, {"memory/slurm/job_7/memory.limit_in_bytes": f"{3 * GIB}"})
    write(root, {"cpu,cpuacct/slurm/cpu.cfs_quota_us": "-1"})
    write(root, {"cpu,cpuacct/slurm/cpu.cfs_period_us": "100000"})
    write(root, {"cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "250000"})
    write(root, {"cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000"})
    assert cgroup_limits(root) == CgroupLimits(3 * GIB, 2.5)


def test_a_container_of_version_1_sees_its_group_under_its_name_outside(tree):
    mount = "35 31 0:32 /docker/0a1b /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"
    root = tree(["5:memory:/docker/0a1b", "0::/"], [mount])
    write(root, {"memory/memory.limit_in_bytes": f"{3 * GIB}"})
    assert cgroup_limits(root) == CgroupLimits(3 * GIB, inf)


def test_a_limit_of_a_parent_that_is_not_mounted_is_read_from_the_statistics(tree):
    mount = "35 31 0:32 /pods/p/c /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"
    root = tree(["5:memory:/pods/p/c"], [mount])
    write(root, {"memory/memory.limit_in_bytes": f"{2**63 - 4096}"})
    write(root, {"memory/memory.stat": f"cache 1\nhierarchical_memory_limit {3 * GIB}"})
    assert cgroup_limits(root).memory_bytes == 3 * GIB


def test_a_machine_may_have_both_versions(tree):
    mounts = [*V1, "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"]
    root = tree(["5:memory:/job", "0::/job"], mounts)
    write(root, {"memory/job/memory.limit_in_bytes": f"{3 * GIB}"})
    write(root, {"unified/job/cpu.max": "200000 100000"})
    assert cgroup_limits(root) == CgroupLimits(3 * GIB, 2.0)


def test_a_mount_may_have_a_space_in_its_name(tree):
    root = tree(["0::/job"], [V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/a\\040b")])
    write(root, {"a b/job/memory.max": f"{3 * GIB}"})
    assert cgroup_limits(root).memory_bytes == 3 * GIB


@pytest.mark.parametrize("text", ["", "max", "0x10", "-1", "100000 0", "\x00"])
def test_files_that_hold_no_limit_limit_nothing(tree, text):
    root = tree(["0::/job", "nonsense", ""], [V2, "nonsense - cgroup2", ""])
    write(root, {"job/memory.max": text, "job/cpu.max": text})
    assert cgroup_limits(root) == CgroupLimits()


def test_a_system_without_control_groups_limits_nothing(tmp_path):
    assert cgroup_limits(tmp_path) == CgroupLimits()


@pytest.fixture
def real_group():
    """Folder of a control group whose parent group has a memory limit of 3 GiB."""
    mounted = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent = next((folder for folder in mounted if (folder / "cgroup.procs").is_file()), None)
    if parent is None or os.getuid():
        pytest.skip("only root can make a control group, where they are mounted")
    name = "memory.limit_in_bytes" if parent.name == "memory" else "memory.max"
    outer = parent / f"noctile-test-{os.getpid()}"
    inner = outer / "step"
    try:
        inner.mkdir(parents=True)
        (outer / name).write_text(str(3 * GIB))
        yield inner
    except OSError as error:
        pytest.skip(f"this machine lets no control group be made: {error}")
    finally:
        for folder in (inner, outer):
            if folder.exists():
                folder.rmdir()


def test_a_process_sees_the_limit_of_the_group_above_its_own(real_group, repo):
    program = (
        "from pathlib import Path; import os, sys\n"
        "Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "from noctile.workflows.resources import machine_bytes\n"
        "print(machine_bytes())"
    )
    command = [sys.executable, "-c", program, str(real_group / "cgroup.procs")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=repo)
    assert int(found.stdout) == 3 * GIB
