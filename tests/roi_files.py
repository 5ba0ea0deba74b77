"""Files of regions of interest and tissue masks for tests, and an independent way to draw them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image

from noctile.pipeline.geometry import Frame

Points = Sequence[tuple[float, float]]


def box(x: float, y: float, width: float, height: float) -> Points:
    """Corners of a rectangle (x, y)."""
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def feature(*rings: Points, name: str | None = None, label: str | None = None) -> dict[str, Any]:
    """Feature of one polygon with holes, as QuPath writes it (x, y)."""
    about: dict[str, Any] = {"objectType": "annotation"}
    if name:
        about["name"] = name
    if label:
        about["classification"] = {"name": label, "color": [200, 0, 0]}
    coordinates = [[*map(list, ring), list(ring[0])] for ring in rings]
    geometry = {"type": "Polygon", "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": about}


def write_roi(path: Path, *features: dict[str, Any]) -> Path:
    """Write a FeatureCollection."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def write_manifest(path: Path, *rows: dict[str, object]) -> Path:
    """Write a CSV manifest with the columns of the first row."""
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_mask(path: Path, mask: np.ndarray) -> Path:
    """Write a picture that is 255 where a mask is True."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def drawn(features: Iterable[dict[str, Any]], frame: Frame, mpp: tuple[float, float]) -> np.ndarray:
    """Pixels of a frame whose centres lie in a polygon, by shapely; bool ``[h, w]``.

    Args:
        features: features of valid polygons (px of level 0).
        frame: frame of the pixels.
        mpp: size of a level-0 pixel (um; y, x).
    """
    union = shapely.union_all([shapely.geometry.shape(f["geometry"]) for f in features])
    shapely.prepare(union)
    y, x = np.mgrid[: frame.extent.height, : frame.extent.width] + 0.5
    return shapely.contains_xy(union, x * frame.mpp_x / mpp[1], y * frame.mpp_y / mpp[0])
