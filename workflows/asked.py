"""Imported by the process that workers are forked from, where that begins before a run's settings are read."""

from workflows.warm import import_asked

import_asked()
