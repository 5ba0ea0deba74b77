"""Tiles joined to the label map of a block."""
