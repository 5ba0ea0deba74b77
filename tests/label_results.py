"""Results of slides whose labels a test chooses, written without a run."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from noctile.pipeline.geometry import Box, Extent, Frame
from noctile.pipeline.masks.layout import MaskLayout
from noctile.pipeline.masks.pyramid import build_pyramid
from noctile.pipeline.masks.store import MaskStore
from noctile.pipeline.measure import count_cores
from noctile.pipeline.models.card import ClassInfo
from noctile.pipeline.plan import TilePlan, Tiling, plan_tiles
from noctile.pipeline.quality import BlockStats
from noctile.pipeline.tissue_mask import TissueMask
from noctile.workflows.results.checksums import write_with_checksums
from noctile.workflows.results.layout import SlideFolder

CLASSES = (
    ClassInfo(code=1, name="tumor", color=(200, 0, 0), role="tumor"),
    ClassInfo(code=2, name="stroma", color=(0, 160, 0), role="tissue"),
)

BLOCK_PX = 96


def write_result(
    out: Path,
    labels: np.ndarray,
    slide_id: str = "s",
    *,
    classes: Sequence[ClassInfo] = CLASSES,
    mpp: float = 0.5,
    native_mpp: float = 0.25,
    bounds: tuple[int, int] = (0, 0),
    content: str = "",
) -> Path:
    """Write the result of one slide, and return its folder.

    Args:
        out: folder of results.
        labels: uint8 ``[h, w]``, codes of the classes, or 0.
        slide_id: id of the slide.
        classes: classes of the label map.
        mpp: pixel size of the label map (um).
        native_mpp: size of a level-0 pixel (um).
        bounds: y and x of the scanned region in level 0 (px).
        content: text whose hash is the fingerprint; "" for the id of the slide.
    """
    folder = SlideFolder(out / "slides" / slide_id)
    folder.path.mkdir(parents=True)
    frame, factor = Frame(Extent(*labels.shape), mpp, mpp), round(mpp / native_mpp)
    height, width = (n * factor for n in labels.shape)
    slide = {
        "slide_id": slide_id,
        "path": f"/scans/{slide_id}.tif",
        "fingerprint": hashlib.sha256((content or slide_id).encode()).hexdigest()[:16],
        "mpp": [native_mpp, native_mpp],
        "extent_px": [height, width],
        "bounds_px": [*bounds, height, width],
    }
    thumbnail_frame = frame.coarser(16)
    extent = thumbnail_frame.extent
    white = np.full((extent.height, extent.width, 3), 240, np.uint8)
    layout = MaskLayout(frame, BLOCK_PX, BLOCK_PX, tuple(classes))
    store = MaskStore.create(folder.mask, layout, white, thumbnail_frame, {"slide": slide})
    for y in range(0, labels.shape[0], BLOCK_PX):
        for x in range(0, labels.shape[1], BLOCK_PX):
            box = Box(y, x, BLOCK_PX, BLOCK_PX).intersect(frame.box)
            heat = np.zeros((-(-box.height // 8), -(-box.width // 8)), np.uint8)
            store.write(box, np.ascontiguousarray(labels[box.slices()]), heat, heat)
    build_pyramid(store)
    tissue = TissueMask(np.ones((extent.height, extent.width), bool), thumbnail_frame, "all", ())
    native = Frame(Extent(height, width), native_mpp, native_mpp)
    plan = plan_tiles(slide_id, native, tissue, Tiling(mpp, 64, 16, "crop", BLOCK_PX, len(classes)))
    assert plan.frame == frame
    described = {
        "key": "k",
        "slide": slide,
        "plan": plan.to_json(),
        "tissue": {
            "frame": {
                "extent": {"height": extent.height, "width": extent.width},
                "mpp_y": thumbnail_frame.mpp_y,
                "mpp_x": thumbnail_frame.mpp_x,
            },
            "rule": "all",
            "flags": [],
        },
    }
    folder.plan.write_text(json.dumps(described))
    Image.fromarray(tissue.mask).convert("L").save(folder.tissue)
    folder.block_stats_file.write_text(json.dumps(block_stats(plan, labels, classes)))
    for path in (folder.tiles, folder.preview):
        path.write_bytes(b"{}")
    mm2 = frame.pixel_area_mm2
    areas = {c.name: round(int((labels == c.code).sum()) * mm2, 6) for c in classes}
    write_with_checksums(
        folder,
        slide
        | {
            "key": "k",
            "class_area_mm2": areas,
            "tissue_area_mm2": round(int((labels > 0).sum()) * mm2, 6),
            "tumor_area_mm2": round(sum(areas[c.name] for c in classes if c.role == "tumor"), 6),
            "qc_flags": [],
            "model": "standin",
            "model_sha256": "0" * 64,
            "backend": "torch",
            "versions": {"noctile": "1"},
        },
    )
    return folder.path


def block_stats(plan: TilePlan, labels: np.ndarray, classes: Sequence[ClassInfo]) -> dict:
    """Content of ``blocks.json``: the counts of each block, as a run makes them."""
    codes, found = [info.code for info in classes], {}
    for block in plan.blocks:
        own = np.ascontiguousarray(labels[block.box.slices()])
        analysed = np.zeros((-(-block.box.height // 8), -(-block.box.width // 8)), np.uint8)
        cores = tuple(count_cores(plan, block, codes, own, analysed, None))
        stats = BlockStats(int((own > 0).sum()), 0, 0, cores=cores)
        found[f"{block.row}.{block.col}"] = stats.to_json()
    return found
