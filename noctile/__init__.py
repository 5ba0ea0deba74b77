"""Segment archives of whole-slide images overnight: masks, tumor areas, one cohort table.

This is the public face. Each name is imported when it is first used, so that ``import noctile``
takes milliseconds. Modules that are not named here may change with any release.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noctile.pipeline.errors import NoctileError
    from noctile.pipeline.models.folder import find_model, installed_models, read_card
    from noctile.pipeline.models.load import load_predictor
    from noctile.pipeline.segment_slide import Segmentation
    from noctile.pipeline.slides.open import open_slide
    from noctile.workflows.commands.opened import Results
    from noctile.workflows.commands.opened import open_results as open  # noqa: A004 - noctile.open
    from noctile.workflows.commands.opened_slide import SlideResult
    from noctile.workflows.commands.run_slides import run
    from noctile.workflows.commands.segment import segment
    from noctile.workflows.run.progress import RunResult

__version__ = version("noctile")

_PUBLIC = {
    "NoctileError": "pipeline.errors:NoctileError",
    "Results": "workflows.commands.opened:Results",
    "RunResult": "workflows.run.progress:RunResult",
    "Segmentation": "pipeline.segment_slide:Segmentation",
    "SlideResult": "workflows.commands.opened_slide:SlideResult",
    "find_model": "pipeline.models.folder:find_model",
    "installed_models": "pipeline.models.folder:installed_models",
    "load_predictor": "pipeline.models.load:load_predictor",
    "open": "workflows.commands.opened:open_results",
    "open_slide": "pipeline.slides.open:open_slide",
    "read_card": "pipeline.models.folder:read_card",
    "run": "workflows.commands.run_slides:run",
    "segment": "workflows.commands.segment:segment",
}
"""Module and name there of each public name."""

__all__ = [
    "NoctileError",
    "Results",
    "RunResult",
    "Segmentation",
    "SlideResult",
    "__version__",
    "find_model",
    "installed_models",
    "load_predictor",
    "open",
    "open_slide",
    "read_card",
    "run",
    "segment",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Raises:
        AttributeError: if there is no such name.
    """
    if name not in _PUBLIC:
        raise AttributeError(f"module 'noctile' has no attribute {name!r}")
    module, _, own_name = _PUBLIC[name].partition(":")
    return getattr(import_module(f"noctile.{module}"), own_name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
