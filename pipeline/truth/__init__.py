"""Regions whose classes are known: found, read and split, for training and evaluation."""
