"""Viewer: a local web server that shows slides, masks and reviews in a browser."""
