"""Survival of damaged slides: seeded mutants of real and small slides are opened and read.

    python -m benchmarks.mutants --n 1000 --seed 0
    python -m benchmarks.mutants --n 1000 --seed 0 --write build/mutants-0

The second command writes the mutants, for ``noctile run build/mutants-0 ...``.

A mutant ends in one of these ways:

- ``done``;
- the reason code of a documented error;
- ``undocumented``: another Python exception;
- ``memory``: its process needs more memory than it may have;
- ``crash``: a signal ends its process;
- ``hang``: it takes longer than the limit.

Many mutants share a process, which is replaced when it dies: as in a run, where a worker dies and
its slide fails alone. The table at the end names every mutant that ended in one of the last four
ways.
"""

import argparse
import collections
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.damage import mutate
from benchmarks.small_slides import small_slides
from noctile.pipeline.errors import MppImplausibleError, MppMissingError, SlideError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.tissue import TissueSpec, find_tissue

LIMIT_S = 60.0
"""Time after which a mutant is a hang (s); the originals take 0.1 to 1.5 s."""

MEMORY_BYTES = 2**30
"""Address space for a mutant, beside that of the libraries (B)."""

_READ_MPP, _BOX_PX, _BOXES = 0.5, 512, 4


@dataclass(frozen=True, slots=True)
class Fate:
    """End of one mutant.

    Attributes:
        number: number of the mutant.
        original: name of the file that was damaged.
        mutation: description of the damage.
        end: one of the ways that the module names, or a reason code.
        what: traceback in one line, if the end is bad.
        seconds: time that the mutant took (s).
    """

    number: int
    original: str
    mutation: str
    end: str
    what: str
    seconds: float

    @property
    def is_bad(self) -> bool:
        """True for an end that is not documented."""
        return self.end in {"undocumented", "memory", "crash", "hang"}


def read_slide(path: Path, number: int) -> str:
    """Open a slide, read its thumbnail and some boxes, and find its tissue.

    Returns:
        ``done``, or the reason code of the error.
    """
    try:
        _read(path, number, None)
    except (MppMissingError, MppImplausibleError) as error:
        try:
            _read(path, number, _READ_MPP)  # to test the rest of the reader too
        except SlideError as worse:
            return worse.reason
        return error.reason
    except SlideError as error:
        return error.reason
    return "done"


def _read(path: Path, number: int, mpp: float | None) -> None:
    with closing(open_slide(path, mpp=mpp)) as reader:
        spec = TissueSpec()
        find_tissue(*read_thumbnail(reader, spec.mpp), spec)
        extent, rng = reader.info.frame.at(_READ_MPP).extent, random.Random(number)
        for _ in range(_BOXES):
            y, x = rng.randrange(extent.height), rng.randrange(extent.width)
            reader.read(Box(y - 64, x - 64, _BOX_PX, _BOX_PX), _READ_MPP)


def serve(connection: Connection, memory_bytes: int, crash_dump: str) -> None:
    """Read files until None is sent.

    Args:
        connection: receives (path, number), and sends (end, traceback).
        memory_bytes: memory beside that of the libraries (B).
        crash_dump: file for the traceback if a signal ends this process.
    """
    with Path(crash_dump).open("w", encoding="utf-8") as file:
        faulthandler.enable(file, all_threads=False)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        used = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while message := connection.recv():
            connection.send(_end_of(*message))


def _end_of(path: str, number: int) -> tuple[str, str]:
    try:
        return read_slide(Path(path), number), ""
    except MemoryError as error:
        return "memory", _innermost(error)
    except Exception as error:  # noqa: BLE001 - undocumented errors are counted
        return "undocumented", f"{type(error).__name__}: {error} {_innermost(error)}"


def _innermost(error: BaseException) -> str:
    """Describe the three innermost frames of a traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )


class _Child:
    """Process that reads mutants; it is replaced when it has died."""

    def __init__(self, folder: Path, limit_s: float, memory_bytes: int) -> None:
        self._folder, self._limit_s, self._memory_bytes = folder, limit_s, memory_bytes
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["noctile.pipeline.slides.open", "noctile.pipeline.tissue"]
        )
        self._start()

    def _start(self) -> None:
        self._crash_dump = self._folder / "crash.txt"
        self._connection, end = self._context.Pipe()
        arguments = (end, self._memory_bytes, str(self._crash_dump))
        self._process = self._context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        end.close()

    def read(self, path: Path, number: int) -> tuple[str, str]:
        """Return the end of a mutant, and a traceback in one line."""
        self._connection.send((str(path), number))
        try:
            if self._connection.poll(self._limit_s):
                end: tuple[str, str] = self._connection.recv()
                return end
        except EOFError:
            self._process.join()
            what = self._crashed(self._process.exitcode or 0)
            self._start()
            return "crash", what
        os.kill(
            self._process.pid or 0, signal.SIGABRT
        )  # writes a traceback, if the process still handles signals
        self._process.join(5)
        self._process.kill()
        self._process.join()
        what = self._crashed(0)
        self._start()
        return "hang", what

    def _crashed(self, code: int) -> str:
        """Describe a crash by its signal or exit code and the three innermost frames."""
        lines = self._crash_dump.read_text(encoding="utf-8", errors="replace").splitlines()
        frames = [line.strip().rpartition("/")[2] for line in lines if line.startswith("  File")]
        stopped = f"exit code {code}" if code else "stopped"
        name = signal.Signals(-code).name if code < 0 else stopped
        return " < ".join([name, *frames[:3]])

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join(5)
        self._process.kill()
        self._connection.close()


def hunt(
    originals: Sequence[Path],
    numbers: Sequence[int],
    seed: int,
    *,
    keep: Path | None = None,
    limit_s: float = LIMIT_S,
) -> Iterator[Fate]:
    """Make mutants and yield their fates.

    Mutant ``k`` of a seed is always the same for the same originals.

    Args:
        originals: files to damage.
        numbers: numbers of the mutants.
        seed: seed of all mutants.
        keep: folder for the mutants that end badly; None to keep none.
        limit_s: time limit of one mutant (s).
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        child = _Child(Path(folder), limit_s, MEMORY_BYTES)
        with closing(child):
            for number in numbers:
                original, data, mutation = mutant(originals, number, seed)
                path = Path(folder) / f"mutant{original.suffix}"
                path.write_bytes(data)
                began = time.perf_counter()
                end, what = child.read(path, number)
                fate = Fate(number, original.name, mutation, end, what, time.perf_counter() - began)
                if keep and fate.is_bad:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}-{original.name}").write_bytes(data)
                path.unlink()
                yield fate


def mutant(originals: Sequence[Path], number: int, seed: int) -> tuple[Path, bytes, str]:
    """Return the original of a mutant, its bytes, and a description of the damage."""
    rng = random.Random(f"{seed}/{number}")
    original = rng.choice(originals)
    return original, *mutate(original.read_bytes(), rng)


def table(fates: Sequence[Fate]) -> str:
    """Return the counts by end, and a line for each mutant that ended badly."""
    ends = collections.Counter(fate.end for fate in fates)
    lines = [
        "| end | mutants |",
        "|---|---:|",
        *(f"| {end} | {count} |" for end, count in ends.most_common()),
    ]
    slow = max(fates, key=lambda fate: fate.seconds)
    lines.append(
        f"\nslowest: {slow.seconds:.1f} s, mutant {slow.number} of {slow.original} "
        f"({slow.mutation}), {slow.end}"
    )
    lines += [
        f"{f.end}: mutant {f.number} of {f.original}, {f.mutation}: {f.what}"
        for f in fates
        if f.is_bad
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the mutants that end badly")
    parser.add_argument(
        "--slides",
        type=Path,
        default=Path("../shared/data/slides"),
        help="real slides, if there are any",
    )
    parser.add_argument(
        "--write", type=Path, help="write the mutants to this folder and do not read them"
    )
    given = parser.parse_args(arguments)
    build = Path("build/mutants")
    originals = [*small_slides(build), *_generated(), *_real(given.slides)]
    numbers = range(given.first, given.first + given.n)
    if given.write:
        given.write.mkdir(parents=True)
        for number in numbers:
            original, data, _ = mutant(originals, number, given.seed)
            (given.write / f"{number:04}-{original.name}").write_bytes(data)
        return
    began, fates = time.perf_counter(), []
    for fate in hunt(originals, numbers, given.seed, keep=given.keep):
        fates.append(fate)
        if fate.is_bad:
            print(asdict(fate), flush=True)
    seconds = time.perf_counter() - began
    print(f"{len(fates)} mutants of {len(originals)} files, seed {given.seed}, {seconds:.0f} s")
    print(table(fates))


def _generated() -> list[Path]:
    folder = Path(__file__).resolve().parents[1] / "sample_slides"
    return sorted(path for path in folder.iterdir() if path.suffix in {".svs", ".tiff"})


def _real(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


if __name__ == "__main__":
    main()
