"""Rows whose states stay on a device: the runner, its batches, buffers and weights."""
