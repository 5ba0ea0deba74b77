"""Work on one slide: read, find tissue, plan, predict, stitch, store, measure."""
