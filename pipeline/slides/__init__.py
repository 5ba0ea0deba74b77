"""Slide files in, RGB pixels at a given resolution out."""
