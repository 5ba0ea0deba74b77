"""Exports of one slide's result to files that other programs open."""
