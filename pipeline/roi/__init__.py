"""Regions of interest and tissue masks that the user gives: read, checked, drawn and measured."""
