"""Processes of a run: start, signals, scratch folder, identity."""
