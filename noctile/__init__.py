"""Segment archives of whole-slide images overnight: masks, tumor areas, one cohort table.

This is the public face. Each name is imported when it is first used, so that ``import noctile``
takes milliseconds. Modules that are not named here may change with any release.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noctile.pipeline.masks.store import MaskStore
    from noctile.pipeline.models.folder import find_model, installed_models, read_card
    from noctile.pipeline.models.load import load_predictor
    from noctile.pipeline.slides.discover import find_slides
    from noctile.pipeline.slides.open import open_slide
    from noctile.workflows.run.run import run_slides
    from noctile.workflows.settings import load_settings

__version__ = version("noctile")

_MODULES = {
    "MaskStore": "pipeline.masks.store",
    "find_model": "pipeline.models.folder",
    "find_slides": "pipeline.slides.discover",
    "installed_models": "pipeline.models.folder",
    "load_predictor": "pipeline.models.load",
    "load_settings": "workflows.settings",
    "open_slide": "pipeline.slides.open",
    "read_card": "pipeline.models.folder",
    "run_slides": "workflows.run.run",
}
"""Module of each public name."""

__all__ = [
    "MaskStore",
    "__version__",
    "find_model",
    "find_slides",
    "installed_models",
    "load_predictor",
    "load_settings",
    "open_slide",
    "read_card",
    "run_slides",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Raises:
        AttributeError: if there is no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module 'noctile' has no attribute {name!r}")
    return getattr(import_module(f"noctile.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
