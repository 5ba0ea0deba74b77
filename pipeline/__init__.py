"""What Noctile does to one slide: read, find tissue, plan, predict, join, store, measure."""
