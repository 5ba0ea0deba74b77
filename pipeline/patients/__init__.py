"""From slides to patients: sums by patient, clinical tables, exclusions, methods."""
