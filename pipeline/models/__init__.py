"""Model folders in, class probabilities out. The only room that knows torch."""
