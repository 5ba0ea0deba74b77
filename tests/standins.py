"""Stand-ins with exact results: a slide that is an array, and networks that are formulas."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from scipy import ndimage

from noctile.pipeline.errors import SlideReadError
from noctile.pipeline.export.source import ExportSource
from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.models.card import ClassInfo, ModelCard
from noctile.pipeline.models.threshold import ThresholdConfig, save_threshold
from noctile.pipeline.slides.base import SlideInfo
from noctile.pipeline.tissue_mask import TissueMask


def card(tile_px: int = 64, overlap_px: int = 16, classes: int = 3) -> ModelCard:
    return ModelCard(
        name="standin",
        description="",
        classes=tuple(
            ClassInfo(
                code=2 * k + 1, name=f"c{k}", color=(k, k, k), role="tumor" if k == 0 else "tissue"
            )
            for k in range(classes)
        ),
        mpp=1.0,
        tile_px=tile_px,
        overlap_px=overlap_px,
        sha256="0" * 64,
        licence="CC0-1.0",
    )


class ArraySlide:
    """Slide with one level that is an array; white outside."""

    def __init__(self, pixels: np.ndarray, mpp: float = 1.0) -> None:
        self._pixels = pixels
        frame = Frame(Extent(*pixels.shape[:2]), mpp, mpp)
        self.info = SlideInfo(
            "array",
            Path("array"),
            "0",
            frame,
            (frame,),
            "array",
            "array",
            "user",
            "none",
            None,
            frame.box,
        )
        self.reads: list[Box] = []

    def read(self, box: Box, mpp: float) -> np.ndarray:
        assert self.info.frame.at(mpp) == self.info.frame
        self.reads.append(box)
        out = np.full((box.height, box.width, 3), 255, np.uint8)
        inside = box.intersect(self.info.frame.box)
        out[inside.slices(box)] = self._pixels[inside.slices()]
        return out

    def close(self) -> None:
        pass


class TornSlide(ArraySlide):
    """Slide in which one box cannot be decoded."""

    def __init__(self, pixels: np.ndarray, hole: Box) -> None:
        super().__init__(pixels)
        self._hole = hole

    def read(self, box: Box, mpp: float) -> np.ndarray:
        pixels = super().read(box, mpp)
        if box.intersect(self._hole).area:
            raise SlideReadError("slide array: planted hole")
        return pixels


class PositionNet:
    """Network whose probabilities depend on the position of a pixel in its tile.

    Near the edge of a tile, real networks behave like this.
    """

    batch_size = 4

    def __init__(self, model: ModelCard, namespace: Any = np) -> None:
        self.card, self._xp = model, namespace
        ramp = np.linspace(0, 1, model.tile_px, dtype=np.float32)
        self._position = ramp[:, None] * 0.7 + ramp[None, :] * 0.3
        self.batches: list[int] = []

    def __call__(self, tiles: np.ndarray) -> Any:
        self.batches.append(len(tiles))
        x = tiles.astype(np.float32) / 255
        logits = [
            x[..., k % 3] * (k + 1) + self._position * (0.5 - k)
            for k in range(len(self.card.classes))
        ]
        e = np.exp(np.stack(logits, axis=1))
        return self._xp.asarray(e / e.sum(axis=1, keepdims=True))


class ConstantNet:
    """Network with the same probabilities for every pixel."""

    batch_size = 4

    def __init__(self, model: ModelCard, values: list[float], namespace: Any = np) -> None:
        self.card, self._values, self._xp = model, np.asarray(values, np.float32), namespace

    def __call__(self, tiles: np.ndarray) -> Any:
        n, height, width, _ = tiles.shape
        return self._xp.asarray(
            np.broadcast_to(
                self._values[:, None, None], (n, len(self._values), height, width)
            ).copy()
        )


def tissue_of(mask: np.ndarray, mpp: float = 8.0) -> TissueMask:
    return TissueMask(mask, Frame(Extent(*mask.shape), mpp, mpp), "test", ())


def small_slide(
    path: Path,
    *,
    seed: int | None,
    height: int,
    width: int,
    mpp: float | None = 0.5,
    description: str | None = None,
) -> None:
    """Write a tiled TIFF with two levels: pink tissue with purple nests on glass.

    Args:
        path: file of the slide.
        seed: seed of the tissue; None for glass alone.
        height: height of level 0 (px).
        width: width of level 0 (px).
        mpp: pixel size for the resolution tags (um); None to write none.
        description: text of the tag ImageDescription.
    """
    pixels = np.full((height, width, 3), 243, np.uint8)
    if seed is not None:
        rng = np.random.default_rng(seed)
        shape = (height // 16 + 1, width // 16 + 1)
        coarse = [ndimage.gaussian_filter(rng.standard_normal(shape), s) for s in (12, 5)]
        y, x = (np.abs(np.linspace(-1, 1, n)) for n in shape)
        inside, nests = (
            coarse[0] / coarse[0].std() > 2 * np.hypot(y[:, None], x[None, :]) - 1.6,
            coarse[1] > 0,
        )
        inside, nests = (m.repeat(16, 0).repeat(16, 1)[:height, :width] for m in (inside, nests))
        texture = rng.normal(0, 14, (height, width, 1))
        tissue = np.where(nests[..., None], (120, 70, 150), (214, 150, 190)) + texture
        pixels = np.where(inside[..., None], tissue, pixels).clip(0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as tif:
        for level, factor in enumerate((1, 4)):
            shrunk = pixels[: height // factor * factor, : width // factor * factor]
            shrunk = shrunk.reshape(height // factor, factor, width // factor, factor, 3).mean(
                axis=(1, 3)
            )
            tif.write(
                shrunk.astype(np.uint8),
                tile=(128, 128),
                photometric="rgb",
                compression="jpeg",
                subfiletype=1 if level else 0,
                resolution=(1e4 / (mpp * factor), 1e4 / (mpp * factor)) if mpp else None,
                resolutionunit="CENTIMETER" if mpp else "NONE",
                description=description,
                metadata=None,
            )


MASK_CLASSES = (
    ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),
    ClassInfo(code=2, name="stroma", color=(0, 160, 0), role="tissue"),
    ClassInfo(code=21, name="other", color=(160, 160, 160), role="tissue"),
)


def stored_labels(
    folder: Path,
    labels: np.ndarray,
    *,
    mpp: tuple[float, float] = (0.5, 0.5),
    slide_mpp: tuple[float, float] = (0.5, 0.5),
    bounds_yx: tuple[int, int] = (0, 0),
    block_px: int = 512,
    classes: tuple[ClassInfo, ...] = MASK_CLASSES,
) -> ExportSource:
    """Write a label map as the masks of a slide, whose id is the name of the folder.

    Args:
        folder: folder of the slide; it must not exist.
        labels: uint8 ``[h, w]``, codes of the classes.
        mpp: size of a pixel of the label map (um; y, x).
        slide_mpp: size of a level-0 pixel (um; y, x).
        bounds_yx: corner of the scanned region in the slide's file (px).
        block_px: side of a block (px).
        classes: classes of the labels.
    """
    frame = Frame(Extent(*labels.shape), *mpp)
    layout = MaskLayout(frame, block_px, min(128, block_px), classes)
    small = frame.coarser(16)
    size = [round(n * a / b) for n, a, b in zip(labels.shape, mpp, slide_mpp, strict=True)]
    about = {"mpp": list(slide_mpp), "bounds_px": [*bounds_yx, *size]}
    thumbnail = np.full((small.extent.height, small.extent.width, 3), 230, np.uint8)
    folder.mkdir(parents=True)
    made_by = {"slide": {"slide_id": folder.name, **about}, "model": {"name": "standin"}}
    store = MaskStore.create(folder / "mask.ome.zarr", layout, thumbnail, small, made_by)
    for row in range(-(-labels.shape[0] // block_px)):
        for col in range(-(-labels.shape[1] // block_px)):
            box = layout.shard_box(row, col)
            heat = np.zeros(Frame(box.extent, 1, 1).coarser(8).box.extent.area, np.uint8)
            heat = heat.reshape(-(-box.height // 8), -(-box.width // 8))
            store.write(box, labels[box.slices()], heat, heat)
    build_pyramid(store)
    areas = {c.name: int((labels == c.code).sum()) * frame.pixel_area_mm2 for c in classes}
    summary = {"key": "0123456789abcdef", "path": f"/slides/{folder.name}.svs", "model": "standin"}
    summary |= {**about, "class_area_mm2": areas, "extent_px": size, "qc_flags": []}
    return ExportSource.open(store.path, summary)


def threshold_model(folder: Path, dark_od: float = 0.3, tile_px: int = 128) -> Path:
    """Write a model without a network: dark is tumor, lighter stroma."""
    classes = [
        {"code": 2, "name": "stroma", "color": (0, 160, 0), "role": "tissue"},
        {"code": 1, "name": "tumor", "color": (200, 0, 0), "role": "tumor"},
    ]
    fields = {
        "name": "dark",
        "description": "dark is tumor",
        "classes": classes,
        "licence": "CC0-1.0",
    }
    fields |= {"mpp": 0.5, "tile_px": tile_px, "overlap_px": 32}
    save_threshold(folder, ThresholdConfig(thresholds_od=(dark_od,)), fields)
    return folder
