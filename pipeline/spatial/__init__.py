"""Measures of a label map that need distances and neighbourhoods: tumor bed, ratios, foci."""
