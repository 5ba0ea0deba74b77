"""Where jobs run: in this process, or on Dask workers."""
