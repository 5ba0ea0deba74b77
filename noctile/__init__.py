"""Segment archives of whole-slide images overnight: masks, tumor areas, one cohort table."""

from importlib.metadata import version

__version__ = version("noctile")
