"""Damage to a folder of results, and the faults that `noctile verify` then reports."""

import json
import random
from pathlib import Path

import numpy as np

from noctile.pipeline.geometry import Box
from noctile.pipeline.masks.store import MaskStore
from noctile.workflows.commands.verify import Verification, verify

LABELS = "mask.ome.zarr/labels/classes"

NO_CHECKSUMS = ("slides/a/checksums.json", "is missing")
"""Fault of a slide whose checksums were deleted."""


def check(out: Path, *slide_ids: str, workers: int = 1) -> Verification:
    return verify(out, slide_ids, workers, lambda check: None)


def found(out: Path) -> list[tuple[str, str]]:
    """Return (file, what) of every fault."""
    result = check(out)
    faults = [*result.tables, *(fault for slide in result.slides for fault in slide.faults)]
    assert result.exit_code == (1 if faults else 0)
    return [(fault.file, fault.what) for fault in faults]


def faulty_files(out: Path) -> list[str]:
    return [file for file, _ in found(out)]


def found_without_checksums(out: Path) -> list[tuple[str, str]]:
    """Return (file, what) of every fault but the missing checksums of slide a."""
    faults = found(out)
    faults.remove(NO_CHECKSUMS)
    return faults


def delete_checksums(out: Path) -> None:
    """Delete the checksums of slide a, so that only the contents of its files can show damage."""
    (out / "slides" / "a" / "checksums.json").unlink()


def flip_a_bit(path: Path, seed: int = 0) -> None:
    rng, data = random.Random(seed), bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def first_shard(out: Path, level: int = 0) -> str:
    """Return the path of the first shard of slide a, relative to the results."""
    array = out / "slides" / "a" / LABELS / str(level)
    return sorted(p.relative_to(out).as_posix() for p in array.glob("c/*/*"))[0]


def first_block(out: Path) -> tuple[MaskStore, Box, np.ndarray]:
    """Return the first block of slide a; its first pixel is glass."""
    store = MaskStore.open(out / "slides" / "a" / "mask.ome.zarr")
    box = store.layout.shard_box(*store.stored_shards()[0])
    labels = store.read(box)
    assert labels.any()
    assert not labels[0, 0]
    return store, box, labels


def edit(path: Path, **values: object) -> None:
    """Change values of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=1) + "\n")
