"""Inference servers: one process computes on each GPU for all workers."""
