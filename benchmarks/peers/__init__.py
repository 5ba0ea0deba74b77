"""Other programs that segment slides, measured end to end on the same slide with the same weights."""
