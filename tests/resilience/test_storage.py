"""Disks that answer reads with errors: no slide fails for them, and the same command goes on."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from faulty_slides import plant
from run_programs import World, contents, ledger, outcomes, same

from noctile.cli import main
from noctile.workflows.jobs.messages import StepJob
from noctile.workflows.jobs.worker import OPEN_SLIDES
from noctile.workflows.run import loop, retries

SETTINGS = """
engine = "serial"
block_px = 480
device = "cpu"
min_free_disk_bytes = 0
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World.of(tmp_path_factory.mktemp("world"), {"healthy": 3}, SETTINGS) as world:
        yield world


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(retries, "PAUSES_S", (0.1, 0.1, 0.1))


@pytest.fixture
def errors_of(monkeypatch) -> Callable[[str, int], None]:
    """Function that lets reads from the second half of a file fail, for a number of times."""
    pread, fails = os.pread, {}

    def read(handle: int, count: int, offset: int) -> bytes:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if fails.get(name, 0) > 0 and offset > os.fstat(handle).st_size // 2:
            fails[name] -= 1
            raise OSError(errno.EIO, "Input/output error")
        return pread(handle, count, offset)

    monkeypatch.setattr(os, "pread", read)
    return fails.__setitem__


def run(world: World, out: Path, *more: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, world.words(out, *more))
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def test_a_read_error_that_passes_changes_no_byte(world, tmp_path, errors_of):
    assert run(world, tmp_path / "undisturbed")[0] == 0
    errors_of("healthy-1.tif", 2)
    code, output = run(world, tmp_path / "out")
    assert code == 0, output
    assert "tried again soon" in output
    same(contents(tmp_path / "out"), contents(tmp_path / "undisturbed"))


def test_a_bad_place_of_the_disk_under_one_file_fails_its_slide_alone(world, tmp_path, errors_of):
    errors_of("healthy-1.tif", 10**9)
    code, output = run(world, tmp_path / "out")
    assert code == 1, output
    found = outcomes(tmp_path / "out")
    assert found.pop("healthy-1") == ("failed", "unreadable")
    assert set(found.values()) == {("done", "")}


@pytest.fixture
def image(world, tmp_path) -> Iterator[tuple[Path, Path]]:
    """A disk with the world's slides, and the file that holds its bytes.

    Blocks that lie behind the end of the file answer with EIO.
    """
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    image.touch()
    os.truncate(image, 64 * 2**20)
    made = os.geteuid() == 0 and os.system(f"mkfs.ext4 -q -F {image} 2>/dev/null") == 0
    if not made or os.system(f"mount -o loop {image} {folder} 2>/dev/null"):
        pytest.skip("a disk in a file can be mounted by root only, with loop devices and ext4")
    for slide in world.manifest.parent.glob("*.tif"):
        shutil.copy(slide, folder)
    os.system(f"umount {folder}")
    assert os.system(f"mount -o loop,ro {image} {folder}") == 0
    yield image, folder
    OPEN_SLIDES.close()
    assert os.system(f"umount {folder}") == 0


def test_a_disk_that_answers_with_errors_fails_no_slide_and_the_same_command_goes_on(
    world, image, tmp_path
):
    file, folder = image
    assert len(os.listdir(folder)) == 4  # noqa: PTH208 - and lost+found; its list stays in memory
    good, out = file.read_bytes(), tmp_path / "out"
    rows = "".join(f"{path.stem},{path}\n" for path in sorted(folder.glob("*.tif")))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"slide_id,path\n{rows}")
    os.truncate(file, 2**20)
    code, output = run(world, out, "--manifest", manifest)
    assert code == 3, output
    assert "Input/output error" in output
    assert "repair the disk or the network with the slides" in output
    assert {status for status, _ in outcomes(out).values()} == {"skipped"}
    assert "failed" not in {line["event"] for line in ledger(out)}
    file.write_bytes(good)
    code, output = run(world, out, "--manifest", manifest)
    assert code == 0, output
    assert set(outcomes(out).values()) == {("done", "")}


@pytest.mark.parametrize("step", ["segment", "finish"])
def test_a_slide_that_is_overwritten_while_it_is_read_is_done_again_of_one_version(
    tmp_path, monkeypatch, step
):
    do = loop.do
    with World.of(tmp_path, {"healthy": 1}, SETTINGS) as world:
        slide = world.folder / "slides" / "healthy-0.tif"
        (tmp_path / "other").mkdir()
        plant(tmp_path / "other", {"healthy": 1}, seed=7)
        other = (tmp_path / "other" / slide.name).read_bytes()

        def overwriting(job: StepJob) -> Any:
            if job.step.kind == step and slide.read_bytes() != other:
                slide.write_bytes(other)  # in place: open readers see it
            return do(job)

        monkeypatch.setattr(loop, "do", overwriting)
        code, output = run(world, tmp_path / "out")
        assert code == 0, output
        assert "done again from its start" in output
        assert run(world, tmp_path / "fresh")[0] == 0
        same(masks(tmp_path / "out"), masks(tmp_path / "fresh"))


def masks(out: Path) -> dict[str, bytes]:
    found = {name: data for name, data in contents(out).items() if "mask.ome.zarr" in name}
    assert found
    return found
