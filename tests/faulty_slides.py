"""Slides with faults, named after the fault, and the outcome that a run must give them."""

import random
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from standins import small_slide

EXPECTED = {
    "healthy": ("done", {""}),
    "truncated": ("failed", {"unopenable", "unreadable", "unreadable_tissue"}),
    "flipped": (
        "",
        {"", "unopenable", "unreadable", "unreadable_tissue"},
    ),  # done or failed, as the bits fell
    "companion": ("failed", {"unopenable"}),
    "nompp": ("failed", {"mpp_missing"}),
    "hang": ("failed", {"timeout"}),
    "deaf": ("failed", {"timeout"}),
    "segfault": ("failed", {"worker_died"}),
    "hog": ("failed", {"out_of_memory"}),
    "vanish": ("failed", {"missing"}),
    "blank": ("done", {""}),
    "dark": ("done", {""}),
}
"""Status and possible reason codes, by the first word of a slide's name; "" is any status."""


def plant(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write slides, ``counts`` of each kind, and a manifest of them; return the manifest."""
    rng = random.Random(seed)
    rows = []
    for kind, count in counts.items():
        for n in range(count):
            name = f"{kind}-{n}"
            path = folder / f"{name}{'.mrxs' if kind == 'companion' else '.tif'}"
            _PLANT.get(kind, _healthy)(path, rng.randrange(10**6))
            rows.append(f"{name},{path}")
    rng.shuffle(rows)
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(["slide_id,path", *rows]) + "\n")
    return manifest


def _healthy(path: Path, seed: int) -> None:
    """A slide with tissue: some seeds give none and are skipped."""
    while not path.exists() or tifffile.imread(path, key=1).mean() > 235:
        small_slide(path, seed=seed, height=700 + seed % 300, width=900)
        seed += 1


def _truncated(path: Path, seed: int) -> None:
    _healthy(path, seed)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 5])


def _flipped(path: Path, seed: int) -> None:
    """A slide in whose second half one bit in about a hundred bytes is flipped."""
    _healthy(path, seed)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        start, stop = min(page.dataoffsets), max(np.add(page.dataoffsets, page.databytecounts))
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    where = rng.integers(start + (stop - start) // 2, stop, (stop - start) // 200)
    data[where] ^= (1 << rng.integers(0, 8, where.size)).astype(np.uint8)
    path.write_bytes(data.tobytes())


def _companion(path: Path, seed: int) -> None:
    Image.new("RGB", (64, 64), (200, seed % 256, 200)).save(path, format="JPEG")


def _nompp(path: Path, seed: int) -> None:
    small_slide(path, seed=seed, height=700, width=900, mpp=None)


def _blank(path: Path, seed: int) -> None:
    small_slide(path, seed=None, height=700, width=900)


def _dark(path: Path, seed: int) -> None:
    """A fluorescence slide: spots on black."""
    rng = np.random.default_rng(seed)
    pixels = (rng.random((700, 900, 3)) * 12).astype(np.uint8)
    for y, x in rng.integers(50, 650, (40, 2)):
        pixels[y - 20 : y + 20, x - 20 : x + 20, 1] = 180
    mpp = (20_000, 20_000)
    tifffile.imwrite(
        path,
        pixels,
        tile=(128, 128),
        photometric="rgb",
        resolution=mpp,
        resolutionunit="CENTIMETER",
        metadata=None,
    )


_PLANT = {
    "truncated": _truncated,
    "flipped": _flipped,
    "companion": _companion,
    "nompp": _nompp,
    "blank": _blank,
    "dark": _dark,
}
