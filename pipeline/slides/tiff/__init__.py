"""Tiled TIFF slides, read without a slide library."""
