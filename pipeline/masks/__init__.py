"""Label maps on disk: OME-Zarr 0.5, sharded, each shard written by one task."""
