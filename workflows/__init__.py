"""Where and when the pipeline runs: one night, many slides, any number of processes."""
