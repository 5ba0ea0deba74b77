"""Versions of what touches pixels."""

import platform
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec


@cache
def versions() -> dict[str, str]:
    """By name, Python's among them."""
    names = (
        "noctile",
        "torch",
        "segmentation-models-pytorch",
        "openslide-python",
        "tiffslide",
        "zarr",
        "numpy",
    )
    extras = (name for name in ("openvino",) if find_spec(name))
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in (*names, *extras)},
    }
