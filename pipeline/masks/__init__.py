"""Label maps on disk: OME-Zarr 0.5, sharded, one writer per shard. The only room that knows Zarr."""
