"""What becomes of damaged slides: seeded mutants of real ones and of small ones, each opened, read
and looked at.

    python -m benchmarks.mutants --n 1000 --seed 0 python -m benchmarks.mutants --n 1000 --seed 0
    --write build/mutants-0    # for noctile run build/mutants-0 ...

A mutant ends in one of these ways: ``done``; a documented error, by its reason code;
``undocumented``, another Python exception; ``memory``, when its process may not have more;
``crash``, when a signal ends its process; ``hang``, when it takes longer than the limit. Many
mutants share a process of their own, which is replaced when it dies: as in a night, where a worker
dies and its slide fails alone. The table at the end names every file that did not end in the first
two.
"""

import argparse
import collections
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from noctile.pipeline.errors import MppImplausibleError, MppMissingError, SlideError
from noctile.pipeline.geometry import Box
from noctile.pipeline.slides.open import open_slide
from noctile.pipeline.slides.thumbnail import read_thumbnail
from noctile.pipeline.slides.tiff.limits import directories
from noctile.pipeline.tissue import TissueSpec, find_tissue

LIMIT_S = 60.0
"""More than this for one mutant is a hang (s); the originals take 0.1 to 1.5 s."""

MEMORY_BYTES = 2**30
"""Address space that a mutant may take beside the libraries (B)."""

_READ_MPP, _BOX_PX, _BOXES = 0.5, 512, 4

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    255,
    256,
    4096,
    2**15,
    2**16 - 1,
    2**20,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
"""What a tag's type, count or value is set to: nothing, little, and where signs and widths end."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a mutant ended.

    Attributes:
        number: of the mutant.
        original: name of the file that it was made of.
        mutation: what was done to it.
        end: one of the ways of this module, or a reason code.
        what: where it ended badly.
        seconds: how long it took.
    """

    number: int
    original: str
    mutation: str
    end: str
    what: str
    seconds: float

    @property
    def is_bad(self) -> bool:
        """Whether it ended in a way that is not documented."""
        return self.end in {"undocumented", "memory", "crash", "hang"}


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A damaged copy of a file, and what was done."""
    damage = rng.choice(
        [_flip, _flip_head, _truncate, _zero, _swap, _edit_tag, _edit_tag, _edit_tag, _edit_pointer]
    )
    out = bytearray(data)
    words = damage(out, rng)
    return bytes(out), words


def _flip(data: bytearray, rng: random.Random) -> str:
    count = 2 ** rng.randrange(10)
    for _ in range(count):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return f"{count} bits flipped"


def _flip_head(data: bytearray, rng: random.Random) -> str:
    count, most = 2 ** rng.randrange(6), min(len(data), 1024)
    for _ in range(count):
        data[rng.randrange(most)] ^= 1 << rng.randrange(8)
    return f"{count} bits of the first 1,024 bytes flipped"


def _truncate(data: bytearray, rng: random.Random) -> str:
    length = rng.randrange(len(data))
    del data[length:]
    return f"cut to {length} bytes"


def _range(data: bytearray, rng: random.Random) -> slice:
    length = min(len(data) // 4, 2 ** rng.randrange(17))
    start = rng.randrange(len(data) - length)
    return slice(start, start + length)


def _zero(data: bytearray, rng: random.Random) -> str:
    where = _range(data, rng)
    data[where] = bytes(where.stop - where.start)
    return f"bytes {where.start} to {where.stop} zeroed"


def _swap(data: bytearray, rng: random.Random) -> str:
    one = _range(data, rng)
    start = rng.randrange(len(data) - (one.stop - one.start))
    other = slice(start, start + one.stop - one.start)
    data[one], data[other] = data[other], data[one]
    return f"bytes from {one.start} and {other.start} swapped ({one.stop - one.start})"


def _edit_tag(data: bytearray, rng: random.Random) -> str:
    """Set the tag, type, count or value of an entry of a TIFF directory; of other files, flip bits
    of the head.
    """
    entries = [(tag, entry) for found in _directories(data) for tag, entry in found.entries.items()]
    if not entries:
        return _flip_head(data, rng)
    tag, entry = rng.choice(entries)
    order, big = (">" if data[:2] == b"MM" else "<"), 43 in data[2:4]
    fields = {
        "tag": (0, "H"),
        "type": (2, "H"),
        "count": (4, "Q" if big else "I"),
        "value": (12, "Q") if big else (8, "I"),
    }
    name = rng.choice(["tag", "type", "count", "count", "value", "value", "value", "value"])
    offset, code = fields[name]
    value = rng.choice(
        [*_NUMBERS, len(data), entry.offset, rng.randrange(len(data)), rng.randrange(20)]
    )
    value &= 256 ** struct.calcsize(code) - 1
    struct.pack_into(order + code, data, entry.offset + offset, value)
    return f"{name} of tag {tag} set to {value}"


def _edit_pointer(data: bytearray, rng: random.Random) -> str:
    """Point from one directory of a TIFF file to another place; of other files, flip bits of the
    head.
    """
    found = _directories(data)
    if not found:
        return _flip_head(data, rng)
    code = ("<", ">")[data[:2] == b"MM"] + ("I", "Q")[43 in data[2:4]]
    value = rng.choice(
        [*(one.offset for one in found), rng.randrange(len(data)), rng.choice(_NUMBERS)]
    )
    place = rng.choice(found).next_offset
    if place + struct.calcsize(code) > len(data):
        return _flip_head(data, rng)
    struct.pack_into(code, data, place, value)
    return f"pointer to the next directory at {place} set to {value}"


def _directories(data: bytearray) -> list[Any]:
    if bytes(data[:4]) not in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return []
    with tempfile.NamedTemporaryFile(prefix="mutant-") as file:
        file.write(data)
        file.flush()
        return list(directories(Path(file.name)))


def look_at(path: Path, number: int) -> str:
    """Open a slide, read it in small and at some places, find its tissue: ``done``, or the reason
    code of its error.
    """
    try:
        _look_at(path, number, None)
    except (MppMissingError, MppImplausibleError) as error:
        try:
            _look_at(path, number, _READ_MPP)  # the rest of the reader is to be seen too
        except SlideError as worse:
            return worse.reason
        return error.reason
    except SlideError as error:
        return error.reason
    return "done"


def _look_at(path: Path, number: int, mpp: float | None) -> None:
    with closing(open_slide(path, mpp=mpp)) as reader:
        spec = TissueSpec()
        find_tissue(*read_thumbnail(reader, spec.mpp), spec)
        extent, rng = reader.info.frame.at(_READ_MPP).extent, random.Random(number)
        for _ in range(_BOXES):
            y, x = rng.randrange(extent.height), rng.randrange(extent.width)
            reader.read(Box(y - 64, x - 64, _BOX_PX, _BOX_PX), _READ_MPP)


def serve(connection: Connection, memory_bytes: int, words: str) -> None:
    """Look at files as long as any are sent; write a traceback to ``words`` when a signal ends this
    process.
    """
    with Path(words).open("w", encoding="utf-8") as file:
        faulthandler.enable(file, all_threads=False)
        used = (
            int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            * resource.getpagesize()
        )
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        while message := connection.recv():
            connection.send(_end_of(*message))


def _end_of(path: str, number: int) -> tuple[str, str]:
    try:
        return look_at(Path(path), number), ""
    except MemoryError as error:
        return "memory", _where(error)
    except Exception as error:  # noqa: BLE001 - to count what nobody foresaw is what this is for
        return "undocumented", f"{type(error).__name__}: {error} {_where(error)}"


def _where(error: BaseException) -> str:
    """The innermost three places of a traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames)
    )


class _Child:
    """A process that looks at mutants, and the next one when it has died."""

    def __init__(self, folder: Path, limit_s: float, memory_bytes: int) -> None:
        self._folder, self._limit_s, self._memory_bytes = folder, limit_s, memory_bytes
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["noctile.pipeline.slides.open", "noctile.pipeline.tissue"]
        )
        self._start()

    def _start(self) -> None:
        self._words = self._folder / "words.txt"
        self._connection, end = self._context.Pipe()
        arguments = (end, self._memory_bytes, str(self._words))
        self._process = self._context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        end.close()

    def look_at(self, path: Path, number: int) -> tuple[str, str]:
        """How the file ended, and where."""
        self._connection.send((str(path), number))
        try:
            if self._connection.poll(self._limit_s):
                end: tuple[str, str] = self._connection.recv()
                return end
        except EOFError:
            self._process.join()
            words = self._last_words(self._process.exitcode or 0)
            self._start()
            return "crash", words
        os.kill(self._process.pid or 0, signal.SIGABRT)  # it says where it is, if it hears
        self._process.join(5)
        self._process.kill()
        self._process.join()
        words = self._last_words(0)
        self._start()
        return "hang", words

    def _last_words(self, code: int) -> str:
        lines = self._words.read_text(encoding="utf-8", errors="replace").splitlines()
        frames = [line.strip().rpartition("/")[2] for line in lines if line.startswith("  File")][
            :3
        ]
        name = (
            signal.Signals(-code).name if code < 0 else f"exit code {code}" if code else "stopped"
        )
        return " < ".join([name, *frames])

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
    """The fates of mutants: number ``k`` of a seed is always the same mutant of the same originals.

    Args:
        originals: files to damage.
        numbers: which mutants.
        seed: of all of them.
        keep: where mutants that end badly are kept; None keeps none.
        limit_s: how long one may take.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        child = _Child(Path(folder), limit_s, MEMORY_BYTES)
        with closing(child):
            for number in numbers:
                original, data, mutation = mutant(originals, number, seed)
                path = Path(folder) / f"mutant{original.suffix}"
                path.write_bytes(data)
                began = time.perf_counter()
                end, what = child.look_at(path, number)
                fate = Fate(number, original.name, mutation, end, what, time.perf_counter() - began)
                if keep and fate.is_bad:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}-{original.name}").write_bytes(data)
                path.unlink()
                yield fate


def mutant(originals: Sequence[Path], number: int, seed: int) -> tuple[Path, bytes, str]:
    """A mutant: the file that it is made of, its bytes, and what was done."""
    rng = random.Random(f"{seed}/{number}")
    original = rng.choice(originals)
    return original, *mutate(original.read_bytes(), rng)


_LAYOUTS: dict[str, dict[str, Any]] = {
    "ycbcr": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg2000": {"compression": "jpeg2000"},
    "aperio-jpeg2000": {
        "compression": 33005,
        "description": "Aperio Image Library v11\n1x1 (64x64)|AppMag = 40|MPP = 0.5",
    },
    "webp": {"compression": "webp"},
    "lzw": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "deflate"},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "plain-strips": {"tile": None, "rowsperstrip": 16},
    "jpeg-strips": {"compression": "jpeg", "tile": None, "rowsperstrip": 32},
    "planes": {"planarconfig": "separate", "compression": "deflate"},
}


def small_slides(folder: Path) -> list[Path]:
    """Slides of 300 x 400 pixels in every layout that is read, and a PNG and a JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(90, 255, (30, 40, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((400, 300), Image.Resampling.BICUBIC))
    for name, options in _LAYOUTS.items():
        _write(folder / f"{name}.tif", pixels, options)
    for name, file in (("big", {"bigtiff": True}), ("motorola", {"byteorder": ">"})):
        _write(folder / f"{name}.tif", pixels, {"compression": "jpeg"}, **file)
    with tifffile.TiffWriter(folder / "pyramid.ome.tif", ome=True) as tiff:
        about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} | {
            f"PhysicalSize{axis}Unit": "\u00b5m" for axis in "XY"
        }
        tiff.write(
            pixels, tile=(64, 64), compression="jpeg", subifds=1, metadata=about, photometric="rgb"
        )
        tiff.write(
            pixels[::2, ::2], tile=(64, 64), compression="jpeg", subfiletype=1, photometric="rgb"
        )
    (folder / "region_MPP-0.5.png").write_bytes(imagecodecs.png_encode(pixels))
    (folder / "region_MPP-0.5.jpg").write_bytes(imagecodecs.jpeg_encode(pixels))
    return sorted(folder.iterdir())


def _write(path: Path, pixels: np.ndarray[Any, Any], options: dict[str, Any], **file: Any) -> None:
    about: dict[str, Any] = {
        "resolution": (20_000, 20_000),
        "resolutionunit": "CENTIMETER",
        "metadata": None,
    }
    with tifffile.TiffWriter(path, **file) as tiff:
        for k, level in enumerate((pixels, pixels[::2, ::2])):
            shape = {"tile": (64, 64), "photometric": "rgb", "subfiletype": 1 if k else 0}
            layout: dict[str, Any] = {
                name: value for name, value in (shape | options).items() if value is not None
            }
            data = np.moveaxis(level, -1, 0) if options.get("planarconfig") == "separate" else level
            tiff.write(data, **about, **layout)


def table(fates: Sequence[Fate]) -> str:
    """Counts by kind of original and by end, and a line for each that ended badly."""
    ends = collections.Counter(fate.end for fate in fates)
    lines = [
        "| end | mutants |",
        "|---|---:|",
        *(f"| {end} | {count} |" for end, count in ends.most_common()),
    ]
    slow = max(fates, key=lambda fate: fate.seconds)
    lines.append(
        f"\nslowest: {slow.seconds:.1f} s, mutant {slow.number} of {slow.original} ({slow.mutation}), {slow.end}"
    )
    lines += [
        f"{f.end}: mutant {f.number} of {f.original}, {f.mutation}: {f.what}"
        for f in fates
        if f.is_bad
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
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
        "--write", type=Path, help="write the mutants to this folder instead of looking at them"
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
    print(
        f"{len(fates)} mutants of {len(originals)} files, seed {given.seed}, {time.perf_counter() - began:.0f} s"
    )
    print(table(fates))


def _generated() -> list[Path]:
    folder = Path(__file__).resolve().parents[1] / "sample_slides"
    return sorted(path for path in folder.iterdir() if path.suffix in {".svs", ".tiff"})


def _real(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


if __name__ == "__main__":
    main()
