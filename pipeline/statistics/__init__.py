"""Statistics of a cohort, one value for each patient: groups, correlation, survival."""
