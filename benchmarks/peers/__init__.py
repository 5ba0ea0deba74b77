"""Other programs that segment slides, measured on the same slide with the same weights."""
