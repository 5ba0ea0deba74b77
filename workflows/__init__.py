"""Place and time of the work: runs of many slides in any number of processes."""
