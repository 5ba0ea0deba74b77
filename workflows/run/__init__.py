"""The run: slides in, masks and tables out."""
