"""Stitching: the tiles of a block joined to its label map and maps."""
