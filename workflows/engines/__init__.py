"""Engines: jobs run in this process or on Dask workers."""
